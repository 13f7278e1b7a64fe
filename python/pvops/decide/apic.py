"""Where the static calls of the local APIC go: to the functions of the driver that the boot chose.

``apic_setup_apic_calls()`` (arch/x86/kernel/apic/init.c, 6.6 and later) updates each ``apic_call_FIELD`` to what the
driver's ``struct apic`` points to. The pointers are kept as they are: ``native_apic_mem_read()`` and its like are
static inlines, of which every driver has a copy of the same name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from pvops.decide.answers import Facts
from pvops.image.updates import Update, updates
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage

_SYMBOLS = ("xen_pv_apic", "apic_noop", "x2apic_savic")
_ROUTING = "Switched APIC routing to"
_MOST = 64
#: Fewer static calls than this have no driver behind them; a driver's first nine are in every kernel that has them.
_LEAST = 8

#: The first members of ``struct apic`` (arch/x86/include/asm/apic.h of 6.6 to 7.2), by their place in pointers. The
#: 13th holds flags.
_FIRST = (
    *("eoi", "native_eoi", "write", "read", "wait_icr_idle", "safe_wait_icr_idle", "send_IPI", "send_IPI_mask"),
    *("send_IPI_mask_allbutself", "send_IPI_allbutself", "send_IPI_all", "send_IPI_self"),
    *("-", "calc_dest_apicid", "icr_read", "icr_write"),
)


class Driver(NamedTuple):
    """A ``struct apic``: its address, and why the boot has it."""

    address: int
    source: str


def targets(facts: Facts, kernel: KernelImage) -> Iterator[tuple[str, int, str]]:
    """(field, address of the function, its source) of each member that a static call may have; 0 for NULL."""
    members = dict(kernel.image.btf_members("apic") or [])
    if "eoi" not in members:
        members = {field: place * kernel.word for place, field in enumerate(_FIRST)}
    driver = _driver(facts, kernel, members)
    if driver is None:
        return
    at = {field: kernel.read_word(driver.address + offset) or 0 for field, offset in members.items()}
    # apic_install_driver(): a driver without a native_eoi() has its eoi() there.
    at["native_eoi"] = at.get("native_eoi") or at["eoi"]
    for field, address in at.items():
        yield field, address, driver.source
    for line in facts.machine.dmesg.splitlines():
        field, replaced, symbol = line.rpartition("APIC: ")[2].partition("() replaced with ")
        found = kernel.address_of(symbol.strip().removesuffix("()")) if replaced else None
        if found is not None:
            yield field, found, f'log: "{line.rpartition("] ")[2]}"'


def unnamed(facts: Facts, kernel: KernelImage) -> Iterator[tuple[int, int, str]]:
    """The same by the addresses of the key and of the trampoline: for images that name neither.

    The code of ``apic_setup_apic_calls()`` says of each static call which member of the driver it gets.
    """
    fields = {place * kernel.word: field for place, field in enumerate(_FIRST)}
    found = {field: (address, source) for field, address, source in targets(facts, kernel)}
    driver = _driver(facts, kernel, {}) if found else None
    if driver is None:
        return
    for update in _members(kernel):
        source = f"{driver.source}; code sets it to the member at {update.member:#x} of struct apic"
        address = found.get(fields.get(update.member or 0, ""), (None,))[0]
        if address is None:
            address = kernel.read_word(driver.address + (update.member or 0)) or 0
        yield update.trampoline, address, source
        if update.key is not None:
            yield update.key, address, source


def _members(kernel: KernelImage) -> list[Update]:
    """The updates with members of what one variable points to, the one with most of them: ``apic``."""
    found = [update for update in updates(kernel) if update.variable is not None and update.member is not None]
    most = Counter(update.variable for update in found).most_common(1)
    if not most or most[0][1] < _LEAST:
        return []
    return [update for update in found if update.variable == most[0][0]]


def _driver(facts: Facts, kernel: KernelImage, members: Mapping[str, int]) -> Driver | None:
    """The last driver that the log says was switched to, else the one ``apic`` is built with, else the only one."""
    drivers = _drivers(kernel)
    lines = [line for line in facts.machine.dmesg.splitlines() if _ROUTING in line]
    if lines:
        wanted = lines[-1].partition(_ROUTING)[2].strip(" :.")
        for address in drivers:
            if wanted in _texts(kernel, address, members.get("name")):
                return Driver(address, f'log: "{_ROUTING}: {wanted}", a driver in the image')
    pointer = kernel.address_of("apic")
    if pointer is None and (members_set := _members(kernel)):
        pointer = members_set[0].variable
    built = kernel.read_word(pointer) if pointer is not None else None
    if built:
        place = kernel.image.symbol_at(built)
        named = place is not None and place[1] == 0
        return Driver(built, f"apic points to {place[0] if place and named else f'{built:#x}'} in the image")
    if len(drivers) == 1:
        return Driver(drivers[0], "the image has one APIC driver")
    return None


def _drivers(kernel: KernelImage) -> list[int]:
    """Every ``struct apic``: those that ``.apicdrivers`` points to, and those that code alone names."""
    found = []
    for name, address, size, _ in kernel.image.sections():
        if name == ".apicdrivers":
            found += [kernel.read_word(address + at) or 0 for at in range(0, size, kernel.word)]
    named = (kernel.address_of(symbol) for symbol in _SYMBOLS)
    return [address for address in (*found, *named) if address]


def _texts(kernel: KernelImage, driver: int, name: int | None) -> list[str]:
    """What a driver's ``name`` says; without its offset, every text that the structure points to."""
    offsets = [name] if name is not None else range(0, _MOST * kernel.word, kernel.word)
    texts = []
    for offset in offsets:
        pointer = kernel.read_word(driver + offset)
        raw = kernel.image.read(pointer, 32) if pointer else None
        if raw is not None and raw.partition(b"\0")[0].isascii():
            texts.append(raw.partition(b"\0")[0].decode())
    return texts
