"""The static keys ``nf_hooks_needed[protocol][hook]``: on where something has registered a hook there.

What is built into the kernel registers its hooks in every boot where nothing waits for a rule set: the tables of
iptables to 4.6 (b9e69e127397, 4.7: "don't hook tables by default"), connection tracking to 4.9 (0c66dc1ea3f0, 4.10:
"register hooks in netns when needed by ruleset"), those of the bridge to 4.16. Sources: net/ipv4/netfilter/{iptable_*,
nf_conntrack_l3proto_ipv4,nf_defrag_ipv4}.c, net/ipv6/netfilter, net/bridge/netfilter/ebtable_*.c of 4.1 and 4.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pvops.decide.answers import Answer

if TYPE_CHECKING:
    from pvops.eras import Version
    from pvops.image.view import KernelView

_IPV4, _BRIDGE, _IPV6 = 2, 7, 10
_PRE_ROUTING, _LOCAL_IN, _FORWARD, _LOCAL_OUT, _POST_ROUTING = range(5)

#: Table of iptables → its hooks (``valid_hooks``).
_TABLES = {
    "filter": (_LOCAL_IN, _FORWARD, _LOCAL_OUT),
    "mangle": (_PRE_ROUTING, _LOCAL_IN, _FORWARD, _LOCAL_OUT, _POST_ROUTING),
    "nat": (_PRE_ROUTING, _LOCAL_IN, _LOCAL_OUT, _POST_ROUTING),
    "raw": (_PRE_ROUTING, _LOCAL_OUT),
    "security": (_LOCAL_IN, _FORWARD, _LOCAL_OUT),
}

#: Initcall → the protocol and hooks it registers, and the release in which that ended.
_BUILT_IN: Mapping[str, tuple[int, Sequence[int], Version]] = {
    **{f"iptable_{table}_init": (_IPV4, hooks, (4, 7)) for table, hooks in _TABLES.items()},
    **{f"ip6table_{table}_init": (_IPV6, hooks, (4, 7)) for table, hooks in _TABLES.items()},
    "nf_conntrack_l3proto_ipv4_init": (_IPV4, _TABLES["nat"], (4, 10)),
    "nf_conntrack_l3proto_ipv6_init": (_IPV6, _TABLES["nat"], (4, 10)),
    "ebtable_filter_init": (_BRIDGE, (_LOCAL_IN, _FORWARD, _LOCAL_OUT), (4, 16)),
    "ebtable_nat_init": (_BRIDGE, (_PRE_ROUTING, _LOCAL_OUT, _POST_ROUTING), (4, 16)),
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
    "br_handle_frame": (_BRIDGE, _PRE_ROUTING),
    "br_pass_frame_up": (_BRIDGE, _LOCAL_IN),
    "__br_forward": (_BRIDGE, _FORWARD),
    "__br_deliver": (_BRIDGE, _LOCAL_OUT),
    "br_send_bpdu": (_BRIDGE, _LOCAL_OUT),
    "__br_multicast_send_query": (_BRIDGE, _LOCAL_OUT),
    "br_forward_finish": (_BRIDGE, _POST_ROUTING),
}

#: NFPROTO_NUMPROTO and NF_MAX_HOOKS before 4.16 (include/uapi/linux/netfilter.h, include/linux/netfilter.h).
_PROTOCOLS, _HOOKS = 13, 8


def registered(kernel: KernelView, version: Version) -> Mapping[tuple[int, int], str]:
    """(protocol, hook) → the initcall that registers it in every boot."""
    found: dict[tuple[int, int], str] = {}
    for initcall, (protocol, hooks, ended) in _BUILT_IN.items():
        if version < ended and kernel.address_of(initcall) is not None:
            found |= {(protocol, hook): initcall for hook in hooks if (protocol, hook) not in found}
    return found


def state(
    hooks: Mapping[tuple[int, int], str], name: str | None, offset: int, size: int, functions: Sequence[str]
) -> Answer | None:
    """Whether a key of ``nf_hooks_needed`` is on; None for other keys, and where nothing registers that hook.

    Args:
        hooks: as `registered` says.
        name: of the key's symbol; None where the image names no data.
        offset: of the key in it.
        size: of the symbol in bytes.
        functions: those that its labels stand in.
    """
    if not hooks:
        return None
    places = list(_of_functions(functions)) if name is None else [*_of_offset(name, offset, size)]
    initcall = next((hooks[place] for place in places if place in hooks), None)
    return None if initcall is None else Answer(True, f"{initcall}() registers a hook there")


def _of_functions(functions: Sequence[str]) -> Iterator[tuple[int, int]]:
    plain = (function.partition(".")[0] for function in functions)
    return (_PLACES[function] for function in plain if function in _PLACES)


def _of_offset(name: str, offset: int, size: int) -> Iterator[tuple[int, int]]:
    """The place of a key in the array; what follows it may stand up to 32 bytes further."""
    key = size // (_PROTOCOLS * _HOOKS)
    if name == "nf_hooks_needed" and key and offset % key == 0:
        yield divmod(offset // key, _HOOKS)
