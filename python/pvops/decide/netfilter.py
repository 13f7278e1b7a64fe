"""The static keys ``nf_hooks_needed[protocol][hook]``: on where something has registered a hook there.

What is built into the kernel registers its hooks in every boot where nothing waits for a rule set: tables of iptables,
ARP and bridges to 5.14 (fdacd57c79b7 and 87663c39f898, 5.15: templates of tables), for the first network namespace at
least; connection tracking to 4.9 (0c66dc1ea3f0, 4.10: "register hooks in netns when needed by ruleset"). Sources:
net/ipv4/netfilter/{iptable_*,arptable_filter,nf_conntrack_l3proto_ipv4}.c, net/ipv6/netfilter,
net/bridge/netfilter/ebtable_*.c of 4.1, 4.9, 5.14 and 5.15.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from pvops.decide.answers import Answer
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras import Version
    from pvops.image.view import KernelView

_IPV4, _ARP, _BRIDGE, _IPV6 = 2, 3, 7, 10
_PRE_ROUTING, _LOCAL_IN, _FORWARD, _LOCAL_OUT, _POST_ROUTING = range(5)

#: Table of iptables → its hooks (``valid_hooks``).
_TABLES = {
    "filter": (_LOCAL_IN, _FORWARD, _LOCAL_OUT),
    "mangle": (_PRE_ROUTING, _LOCAL_IN, _FORWARD, _LOCAL_OUT, _POST_ROUTING),
    "nat": (_PRE_ROUTING, _LOCAL_IN, _LOCAL_OUT, _POST_ROUTING),
    "raw": (_PRE_ROUTING, _LOCAL_OUT),
    "security": (_LOCAL_IN, _FORWARD, _LOCAL_OUT),
}

_TEMPLATES = (5, 15)

#: Initcall → the protocol and hooks it registers, and the release in which that ended.
_BUILT_IN: Mapping[str, tuple[int, Sequence[int], Version]] = {
    **{f"iptable_{table}_init": (_IPV4, hooks, _TEMPLATES) for table, hooks in _TABLES.items()},
    **{f"ip6table_{table}_init": (_IPV6, hooks, _TEMPLATES) for table, hooks in _TABLES.items()},
    "nf_conntrack_l3proto_ipv4_init": (_IPV4, _TABLES["nat"], (4, 10)),
    "nf_conntrack_l3proto_ipv6_init": (_IPV6, _TABLES["nat"], (4, 10)),
    "ebtable_filter_init": (_BRIDGE, (_LOCAL_IN, _FORWARD, _LOCAL_OUT), _TEMPLATES),
    "arptable_filter_init": (_ARP, (0, 1, 2), _TEMPLATES),  # NF_ARP_IN, _OUT, _FORWARD
    "ebtable_nat_init": (_BRIDGE, (_PRE_ROUTING, _LOCAL_OUT, _POST_ROUTING), _TEMPLATES),
}

#: Function → the protocol and hook of the labels in it (NF_HOOK() and its like), where no symbol names the keys.
_PLACES: Mapping[str, tuple[int, int]] = {
    "ip_rcv": (_IPV4, _PRE_ROUTING),
    "xfrm4_transport_finish": (_IPV4, _PRE_ROUTING),
    "ip_local_deliver": (_IPV4, _LOCAL_IN),
    "ip_forward": (_IPV4, _FORWARD),
    "ipmr_queue_xmit": (_IPV4, _FORWARD),
    "__ip_local_out": (_IPV4, _LOCAL_OUT),
    "__ip_local_out_sk": (_IPV4, _LOCAL_OUT),
    "raw_sendmsg": (_IPV4, _LOCAL_OUT),
    "ip_output": (_IPV4, _POST_ROUTING),
    "ip_mc_output": (_IPV4, _POST_ROUTING),
    "xfrm4_output": (_IPV4, _POST_ROUTING),
    "ipv6_rcv": (_IPV6, _PRE_ROUTING),
    "xfrm6_transport_finish": (_IPV6, _PRE_ROUTING),
    "ip6_input": (_IPV6, _LOCAL_IN),
    "ip6_forward": (_IPV6, _FORWARD),
    "__ip6_local_out": (_IPV6, _LOCAL_OUT),
    "__ip6_local_out_sk": (_IPV6, _LOCAL_OUT),
    "rawv6_sendmsg": (_IPV6, _LOCAL_OUT),
    "ip6_output": (_IPV6, _POST_ROUTING),
    "xfrm6_output": (_IPV6, _POST_ROUTING),
    "arp_rcv": (_ARP, 0),
    "arp_xmit": (_ARP, 1),
    "br_handle_frame": (_BRIDGE, _PRE_ROUTING),
    "br_pass_frame_up": (_BRIDGE, _LOCAL_IN),
    "__br_forward": (_BRIDGE, _FORWARD),
    "__br_deliver": (_BRIDGE, _LOCAL_OUT),
    "br_send_bpdu": (_BRIDGE, _LOCAL_OUT),
    "__br_multicast_send_query": (_BRIDGE, _LOCAL_OUT),
    "br_forward_finish": (_BRIDGE, _POST_ROUTING),
}

#: NFPROTO_NUMPROTO (include/uapi/linux/netfilter.h), and what NF_MAX_HOOKS may be (include/linux/netfilter.h): 8, from
#: 4.16 on 5, and 7 where CONFIG_DECNET is set.
_PROTOCOLS, _MAX_HOOKS = 13, (8, 7, 5)
#: Sizes of a static key; behind the array another symbol follows, 32 bytes aligned.
_KEYS, _ALIGNED = (24, 16, 12, 8), 32


#: Initcall → the name of a parameter of its file: built-in ones are named in ``__param``, where no symbol tells.
_PARAMETERS = {f"{ip}_filter_init": f"{ip}_filter.forward".encode() + b"\0" for ip in ("iptable", "ip6table")}


def registered(kernel: KernelView, version: Version) -> Mapping[tuple[int, int], str]:
    """(protocol, hook) → the initcall that registers it in every boot."""
    found: dict[tuple[int, int], str] = {}
    for initcall, (protocol, hooks, ended) in _BUILT_IN.items():
        if version < ended and _built_in(kernel, initcall):
            found |= {(protocol, hook): initcall for hook in hooks if (protocol, hook) not in found}
    return found


def _built_in(kernel: KernelView, initcall: str) -> bool:
    if kernel.image.symbol_count():
        return kernel.address_of(initcall) is not None
    return initcall in _PARAMETERS and kernel.has_constant(_PARAMETERS[initcall])


class KeyArray(NamedTuple):
    """``nf_hooks_needed`` where no symbol names it: its address, the size of a key, and hooks a protocol."""

    base: int
    key: int
    hooks: int

    def at(self, protocol: int, hook: int) -> int:
        """The address of a key."""
        return self.base + (protocol * self.hooks + hook) * self.key

    def place(self, address: int) -> tuple[int, int]:
        """The protocol and hook of a key; a protocol that there is not where it is none of the array."""
        at, rest = divmod(address - self.base, self.key)
        return divmod(at, self.hooks) if not rest else (-1, 0)


def unnamed(addresses: Container[int], first: Iterable[int]) -> KeyArray | None:
    """The array, by the keys that every kernel with netfilter asks: all hooks of IPv4, and two of ARP.

    Args:
        addresses: of keys that labels use.
        first: those that may be that of IPv4's first hook.

    Returns:
        The array; of several that where IPv6's lie too. None where no keys, or those of several arrays, lie so.
    """
    found = []
    asked = (*((_IPV4, hook) for hook in range(5)), (_ARP, 0), (_ARP, 1))
    # No protocol has these numbers: keys without a gap there are those of other arrays.
    never = ((4, 0), (4, 1), (6, 0), (6, 1))
    for key in _KEYS:
        # Nothing asks for a hook of the protocol before, NFPROTO_INET.
        for address in (at for at in first if at - key not in addresses and at + key in addresses):
            for hooks in _MAX_HOOKS:
                array = KeyArray(address - _IPV4 * hooks * key, key, hooks)
                if all(array.at(*place) in addresses for place in asked) and not any(
                    array.at(*place) in addresses for place in never
                ):
                    found.append(array)
    if len(found) > 1:
        found = [array for array in found if all(array.at(_IPV6, hook) in addresses for hook in range(5))]
    return found[0] if len(found) == 1 else None


#: Until which release nf_hook_slow() is told the protocol and the hook in registers (cfdfab314647, 4.1: a structure).
CALLED: Version = (4, 1)
#: Where to search a label's code for the call; ``mov $PROTOCOL,%edi`` or ``%eax``, ``mov $HOOK,%esi`` or ``%edx``.
_BEHIND = 64
_CALL = re.compile(rb"\xe8...[\x00\xff]", re.DOTALL)
_ARGUMENTS = {
    64: (re.compile(rb"\xbf(.)\0\0\0", re.DOTALL), re.compile(rb"\xbe(.)\0\0\0", re.DOTALL)),
    32: (re.compile(rb"\xb8(.)\0\0\0", re.DOTALL), re.compile(rb"\xba(.)\0\0\0", re.DOTALL)),
}


def by_calls(kernel: KernelView, labels: Iterable[tuple[int, int]]) -> KeyArray | None:
    """The array, by what labels call where their key is on: ``nf_hook_slow(protocol, hook, …)`` to 4.0.

    Args:
        kernel: the image.
        labels: key and target of each jump label.

    Returns:
        The array in which all labels that call one function agree; None where that is none, or of fewer than two keys.
        Of several functions, that which most keys call.
    """
    callers: dict[int, set[tuple[int, tuple[int, int]]]] = {}
    for key, target in labels:
        if (called := _called(kernel, target)) is not None:
            callers.setdefault(called[0], set()).add((key, called[1]))
    found = []
    for keys in callers.values():
        for size in _KEYS:
            bases = {address - (protocol * _MAX_HOOKS[0] + hook) * size for address, (protocol, hook) in keys}
            if len(bases) == 1 and len(keys) > 1:
                found.append((len(keys), KeyArray(bases.pop(), size, _MAX_HOOKS[0])))
    most = max((many for many, _ in found), default=0)
    arrays = [array for many, array in found if many == most]
    return arrays[0] if len(arrays) == 1 else None


def _called(kernel: KernelView, target: int) -> tuple[int, tuple[int, int]] | None:
    """The function that a label's code calls, and the protocol and the hook that it is given."""
    code = kernel.image.read(target, _BEHIND) or b""
    call = _CALL.search(code)
    if call is None:
        return None
    found = [pattern.search(code, 0, call.start()) for pattern in _ARGUMENTS[kernel.bits]]
    protocol, hook = (one[1][0] if one is not None else -1 for one in found)
    if not (0 <= protocol < _PROTOCOLS and 0 <= hook < _MAX_HOOKS[0]):
        return None
    function = target + call.end() + int.from_bytes(call[0][1:], "little", signed=True)
    return function & (1 << kernel.bits) - 1, (protocol, hook)


def state(
    hooks: Mapping[tuple[int, int], str],
    name: str | None,
    offset: int,
    size: int,
    functions: Sequence[str],
    place: tuple[int, int] | None = None,
) -> Answer | None:
    """Whether a key of ``nf_hooks_needed`` is on; None for other keys, and where nothing registers that hook.

    Args:
        hooks: as `registered` says.
        name: of the key's symbol; None where the image names no data.
        offset: of the key in it.
        size: of the symbol in bytes.
        functions: those that its labels stand in.
        place: protocol and hook, where the array was found without a name.
    """
    if not hooks:
        return None
    places = list(_of_functions(functions)) if name is None else [*_of_offset(name, offset, size)]
    places += [place] if name is None and place is not None and not places else []
    initcall = next((hooks[place] for place in places if place in hooks), None)
    return None if initcall is None else Answer(True, f"{initcall}() registers a hook there")


def _of_functions(functions: Sequence[str]) -> Iterator[tuple[int, int]]:
    plain = (function.partition(".")[0] for function in functions)
    return (_PLACES[function] for function in plain if function in _PLACES)


def _of_offset(name: str, offset: int, size: int) -> Iterator[tuple[int, int]]:
    """The places in the array that a key may have, by its size."""
    for hooks in _MAX_HOOKS if name == "nf_hooks_needed" else ():
        for key in _KEYS:
            if 0 <= size - _PROTOCOLS * hooks * key < _ALIGNED and offset % key == 0:
                yield divmod(offset // key, hooks)
