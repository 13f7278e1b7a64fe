"""What else of a machine decides the passes: the return thunk, and whether the kernel patches itself for one processor.

Sources: arch/x86/kernel/cpu/bugs.c set_return_thunk(), arch/x86/kernel/alternative.c alternative_instructions(),
kernel/smp.c nosmp(), maxcpus(), nrcpus(); 5.10 to 7.2.
"""

from __future__ import annotations

from collections import Counter

from pvops.decide.answers import Answer
from pvops.machine import cmdline
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pvops.decide.prediction import FeatureWords
    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine


class Thunk(NamedTuple):
    """Where returns go.

    Attributes:
        symbol: what ``x86_return_thunk`` points to; None where the kernel is built without return thunks, or the image
            names none.
        address: where that is; None where the kernel has none.
        used: whether sites jump to it: X86_FEATURE_RETHUNK.
        source: where it is known from.
    """

    symbol: str | None
    address: int | None
    used: Answer
    source: str


#: Where the number of CPUs is from that are up.
ONLINE = "online CPUs in /proc/cpuinfo"
#: What ``x86_return_thunk`` points to as built.
DEFAULT = "__x86_return_thunk"

_ACTIVE = "active return thunk: "
#: What later kernels renamed: retbleed's thunk (d025b7bac07a, 6.9), and the one that counts calls (3496d1c64a0f, 6.9).
_OLD = {"retbleed_return_thunk": "zen_return_thunk", "call_depth_return_thunk": "__x86_return_skl"}

#: What else it may point to.
_OTHERS = (
    *("its_return_thunk", "srso_return_thunk", "srso_alias_return_thunk", "retbleed_return_thunk"),
    *("zen_return_thunk", "call_depth_return_thunk", "__x86_return_skl"),
)
#: A kernel slides by multiples of this (x86-64's ``CONFIG_PHYSICAL_ALIGN`` at least).
_SLIDES_BY = 2 << 20


def return_thunk(words: FeatureWords, kernel: KernelImage) -> Thunk:
    """The return thunk, after the mitigations are selected."""
    from pvops.decide import rules_mitigations

    used = words.named("RETHUNK")
    built = kernel.address_of(DEFAULT)
    if built is None:
        built = _where_returns_go(kernel)
    if built is None or used is None:
        return Thunk(None, None, Answer(False, "the kernel has no return thunks"), f"the image has no {DEFAULT}")
    answer = Answer(used.value, used.source, used.guess)

    def place(symbol: str) -> int | None:
        address = kernel.address_of(symbol)
        if address is None and not kernel.image.symbol_count():
            address = built if symbol == DEFAULT else kernel.image.return_thunk(symbol)
        return address

    def named(symbol: str, source: str) -> Thunk:
        address = place(symbol)
        if address is None:
            return Thunk(None, built, answer, f"{source}, which the image does not name; its returns go to {built:#x}")
        return Thunk(symbol, address, answer, source)

    said = [line.partition(_ACTIVE)[2].split()[0] for line in words.facts.machine.dmesg.splitlines() if _ACTIVE in line]
    if said and (symbol := _symbol(said[-1], place)):
        return named(symbol, f'log: "{_ACTIVE}{said[-1]}"')
    if words.facts.logged(_ACTIVE) is False and not used.value:
        return named(DEFAULT, f'log: no "{_ACTIVE.strip()}"')
    chosen = rules_mitigations.return_thunk(words.facts)
    if chosen is None:
        return named(DEFAULT, "no mitigation sets it")
    # The first kernels with the mitigation of retbleed untrain in the default thunk itself; later ones renamed it.
    names = (chosen, _OLD.get(chosen, chosen), DEFAULT)
    return named(next((name for name in names if kernel.address_of(name) is not None), chosen), used.source)


def _symbol(said: str, place: Callable[[str], int | None]) -> str | None:
    """The thunk that a log names: by an address where the kernel has no symbols, moved as far as the kernel slid."""
    if not said.startswith("0x"):
        return said
    try:
        where = int(said, 16)
    except ValueError:
        return None
    known = ((symbol, place(symbol)) for symbol in (DEFAULT, *_OTHERS))
    return next((symbol for symbol, at in known if at is not None and (where - at) % _SLIDES_BY == 0), None)


def _where_returns_go(kernel: KernelImage) -> int | None:
    """Where the return sites jump as built, in an image that does not name the thunk: most of them to one place."""
    targets: Counter[int] = Counter()
    mask = (1 << kernel.bits) - 1
    for _, address, *_ in kernel.tables.rows("returns"):
        code = kernel.image.read(address, 5) or b""
        if code[:1] == b"\xe9":
            targets[address + 5 + int.from_bytes(code[1:], "little", signed=True) & mask] += 1
    return targets.most_common(1)[0][0] if targets else None


def uniprocessor(machine: Machine, kernel: KernelImage) -> Answer:
    """Whether ``lock`` prefixes are patched away: alternative_instructions().

    ``!noreplace_smp && (num_present_cpus() == 1 || setup_max_cpus <= 1)``. A second processor that
    comes up later brings them back (alternatives_enable_smp()); a kernel without ``.smp_locks`` (7.3) never does it.
    """
    names = {name for name, *_ in kernel.image.sections()}
    if names and ".smp_locks" not in names:
        return Answer(False, "the kernel has no .smp_locks")
    if machine.has_option("noreplace-smp"):
        return Answer(False, "noreplace-smp on the command line")
    if (machine.online_cpus or 1) > 1:
        return Answer(False, f"{machine.online_cpus} CPUs are online")
    if machine.has_option("nosmp"):
        return Answer(True, "nosmp on the command line")
    most = next((given for given in reversed(machine.values("maxcpus")) if given), None)
    # get_option() makes 0 of what is no number, and the variable has no sign.
    if most is not None and not most.startswith("-") and (cmdline.number(most) or 0) <= 1:
        return Answer(True, f"maxcpus={most} on the command line")
    count, source = present_cpus(machine)
    if count is None:
        return Answer(None, source, False)
    told = f"{count} CPU{'' if count == 1 else 's'} present ({source})"
    if source == ONLINE:  # more may be there, and turned off
        return Answer(None, told, count == 1)
    return Answer(count == 1, told)


def present_cpus(machine: Machine) -> tuple[int | None, str]:
    """``num_present_cpus()`` and its source."""
    import re

    if line := re.search(r"smpboot: Allowing (\d{1,6}) CPUs, (\d{1,6}) hotplug CPUs", machine.dmesg):
        return int(line.group(1)) - int(line.group(2)), f'log: "{line.group(0)}"'
    if line := re.search(r"CPU topo: Allowing (\d{1,6}) present CPUs plus", machine.dmesg):
        return int(line.group(1)), f'log: "{line.group(0)}"'
    return machine.possible_cpus
