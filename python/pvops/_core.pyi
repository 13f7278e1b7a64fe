"""The Rust core. Private: `pvops` is the interface."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, final

from typing_extensions import Buffer

__all__ = [
    "BlockCounter",
    "Boot",
    "Columns",
    "Heard",
    "HybridLock",
    "Image",
    "KernelInfo",
    "Known",
    "Location",
    "Memory",
    "Module",
    "PanicException",
    "ParavirtSites",
    "PassRules",
    "Plan",
    "Report",
    "Slot",
    "Tables",
    "TemplateRules",
    "TicketLock",
    "UndeterminedBytes",
    "Unkicked",
    "Verifier",
    "Written",
    "__build__",
    "__version__",
    "boot_region",
    "cpuid",
    "fill_nops",
    "hear",
    "lock_asymmetric",
    "lock_bench_contend",
    "lock_bench_limits",
    "lock_bench_mode",
    "lock_bench_names",
    "lock_bench_pair",
    "lock_check",
    "lock_follow",
    "lock_protocols",
    "lock_replay",
    "lock_standard",
    "lock_uncatchable",
    "measure",
    "pass_order",
    "passes",
    "patch_alternative",
    "patch_locks",
    "patch_site",
    "registered",
    "running_kernel",
    "simulate_lock",
    "simulated_names",
    "switch_locks",
    "unlocks_at_boot",
    "usual_threshold_us",
    "words_of_cut_files",
    "write_file",
]

__build__: str
__version__: str

@final
class Image:
    """An opened kernel image."""

    @staticmethod
    def open(path: str | PathLike[str]) -> Image:
        """Opens a file, mapped and not read where it is not compressed."""

    @staticmethod
    def from_stdin() -> Image:
        """Opens what standard input holds."""

    @staticmethod
    def from_bytes(name: str, data: Buffer) -> Image:
        """Opens bytes where they are; the name is for error messages."""

    @property
    def name(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def container(self) -> str: ...
    @property
    def is_module(self) -> bool:
        """Whether it is a module, laid out where this package chose."""

    def linked_to(self, names: list[str], arrays: list[tuple[str, list[str | None]]]) -> Image:
        """The same module, linked to a kernel that has these names, and these arrays of pointers to functions."""

    @property
    def banner(self) -> str | None: ...
    @property
    def release(self) -> str | None: ...
    def sections(self) -> list[tuple[str, int, int, bool]]:
        """(name, address, size, executable) of each section."""

    def nop_tables(self) -> list[str]:
        """Names of the nop tables that the image has, as `fill_nops` knows them: one since 5.13."""

    def find(self, section: str, raw: bytes) -> list[int]:
        """The addresses at which these bytes stand in the sections of a name, no two of them overlapping."""

    def pointers(self, section: str, low: int, high: int) -> list[tuple[int, int]]:
        """(address, pointer) of each word-aligned pointer from `low` up to but not including `high` in the sections of
        a name."""

    def data_in_text(self) -> list[tuple[int, int]]:
        """(start, end) of data that lie in ``.text`` and that the kernel writes: page tables of x86-64 in 2.6.32."""

    def called_pointer(self, address: int) -> int | None:
        """Where the pointer lies that the call of six bytes at an address goes through, or None if there is none."""

    def return_thunk(self, name: str) -> int | None:
        """Where a thunk of returns is (``srso_return_thunk``), by its code; None where none has that of this name."""

    def unknown_sections(self) -> list[str]:
        """Sections that list addresses of code and that no pass here knows: the kernel may rewrite what they name."""

    def config(self) -> str | None:
        """The configuration embedded with CONFIG_IKCONFIG, or None."""

    def address_of(self, symbol: str) -> int | None:
        """The address of a symbol as linked, or None."""

    def addresses_of(self, symbol: str) -> list[int]:
        """Every address that has this name: static functions repeat names."""

    def symbol_at(self, address: int) -> tuple[str, int] | None:
        """The symbol an address lies in, and the offset into it."""

    def symbol_count(self) -> int:
        """How many symbols the image names; 0 where it names none."""

    def moved(self, slide: int) -> Image:
        """The same image, moved as KASLR moves it: its addresses, and every field that holds one."""

    def symbol_names(self) -> list[str]:
        """The names of all symbols, by address; those that several have are repeated."""

    def btf_members(self, structure: str) -> list[tuple[str, int]] | None:
        """(dotted member, byte offset) of every function pointer in a structure, by BTF; None where BTF has none."""

    def read(self, address: int, len: int) -> bytes | None:
        """Bytes at an address as built, or None where the image has none."""

    def read_word(self, address: int) -> int | None:
        """The pointer at an address as built, or None where the image has none."""

    def disassemble(self, address: int, code: bytes, names: bool = True) -> list[tuple[int, int, str]]:
        """(offset, length, text) of each instruction; symbols are looked up unless `names` is false."""

@final
class Memory:
    """Memory of a running kernel."""

    @staticmethod
    def open(path: str | PathLike[str], name: str | None = None) -> Memory:
        """Opens a dump; it is read where needed. The name is for error messages, where the path means nothing."""

    @staticmethod
    def from_bytes(name: str, data: Buffer) -> Memory:
        """Opens a dump in memory, where it is; the name is for error messages."""

    TELLING: int
    @staticmethod
    def refuse_by_start(name: str, start: bytes) -> None:
        """Refuses a stream by its beginning, where that tells: what it is that is not read, or, of `TELLING` bytes,
        that no machine's memory begins so."""

    @staticmethod
    def from_reader(name: str, call: Callable[[int, int], Buffer], physical: Sequence[tuple[int, int]] = ...) -> Memory:
        """Memory that (address, size) -> bytes reads: by physical addresses where (address, size) of what is there are
        given, by virtual ones else."""

    @staticmethod
    def live() -> Memory:
        """Opens the memory of the kernel this runs on."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def size(self) -> int:
        """How many bytes of physical memory there are."""

    def find(self, image: Image, progress: Callable[[int, int], object] | None = None) -> Location:
        """Finds an image; `progress` is called with (bytes done, bytes there are) where that takes long."""

@final
class Location:
    """An image found in memory."""

    @property
    def slide(self) -> int: ...
    @property
    def physical(self) -> int | None: ...
    @property
    def how(self) -> list[str]: ...
    def read(
        self, address: int, size: int, tables: Tables | None = None
    ) -> tuple[bytes, list[tuple[int, int]], list[tuple[int, int]]]:
        """(bytes as if the kernel had not slid, (start, end) of what could not be read, (address, width) of the
        relocated fields that do not hold what relocation left there, which are raw)."""

class PanicException(BaseException):
    """A panic that no error was made of: a fault of the core."""

@final
class ParavirtSites:
    """The rows of .parainstructions."""

    @staticmethod
    def read(image: Image) -> ParavirtSites | None:
        """Reads the table of an image; None where it has none."""

    @property
    def layout(self) -> str: ...
    def __len__(self) -> int: ...
    def ops_address(self) -> int:
        """The one address of the ops that every row agrees on."""

    def rows(self) -> list[tuple[int, str, int, int, int | None, bytes]]:
        """(address, section, type, length, clobbers, bytes) of every row, in table order."""

    def by_section(self) -> list[tuple[str, int]]:
        """(section, how many sites), most first."""

    def by_type(self) -> list[tuple[int, int]]:
        """(type, how many sites), most first."""

    def listing(self, ops: list[str], names: bool = True) -> str:
        """One line per site, in table order."""

@final
class Tables:
    """Everything an image lists of its own code."""

    @staticmethod
    def read(image: Image) -> Tables:
        """Reads every table of an image."""

    def rows(
        self, table: str, low: int = 0, high: int | None = None
    ) -> list[tuple[int, int, int, int | None, bool | None, bool | None, int | None, int | None]]:
        """(index, address, length, feature, inverted, direct call, key, target) of the rows of a table but
        .parainstructions, in table order; with `low` and `high` those that touch [low, high). Of a jump label
        `inverted` is whether it jumps where its key is off."""

    def count_sites(self, tables: list[str]) -> int:
        """How many places the rows of some tables name."""

    def key(self, table: str, row: int) -> int | None:
        """The address of the static key, or of the key of the static call, that a row of its table names; None of other
        rows."""

    def intrusions(self) -> list[tuple[int, int, int]]:
        """(from, to, site) of each direct branch that lands in the middle of a site."""

    def alternatives(self) -> list[tuple[int, int, int, bool, bool, int, bytes]]:
        """(address, length, feature, inverted, direct call, replacement's address, its bytes) of each row of
        .altinstructions, in table order."""

    def alternatives_alike(self) -> list[tuple[int, int, bool, bool, bytes, int, tuple[int, int, int]]]:
        """The rows of .altinstructions that are alike, in the order of their first: (length, feature, inverted, direct
        call, replacement's bytes, how many there are, (index, address, replacement's address) of the first). Direct
        calls are alike whatever they call."""

    def alternatives_of(self, number: int) -> list[tuple[int, int, int]]:
        """The (index, address, replacement's address) of all rows that are alike, by their number in
        `alternatives_alike`."""

    def static_keys(self) -> list[tuple[int, bool, tuple[str, int] | None]]:
        """(address, whether it is built on, symbol it lies in and offset or None) of each static key of jump labels."""

    def sites_of_key(self, key: int) -> list[int]:
        """The jump labels that use a static key, by their addresses, in table order."""

    def call_keys(self) -> list[tuple[int, str | None, int]]:
        """(address of the key, name without its prefix or None, address of the function it is built with) of each
        static call that has sites or a trampoline, by address; where nothing names a trampoline's key, the
        trampoline's address."""

    @property
    def alternatives_layout(self) -> str | None: ...
    @property
    def preambles(self) -> tuple[int, int | None]:
        """How far before functions preambles are, and how far the kernel's own code takes them to be where it tells."""

    def constants(self) -> list[tuple[str, int, list[int]]]:
        """(section, width in bytes, addresses) of each run-time constant."""

@final
class BlockCounter:
    """Counts the blocks that an emulator's hook names; those that have to be looked at go to Python."""

    def __new__(cls, limit: int, look: Callable[[int, int], object]) -> BlockCounter:
        """`look` is called with address and size of a block that is not known, that begins in a site and was not gone
        on to, or that has more instructions than are left of `limit`."""

    @property
    def hook(self) -> int:
        """The address of the function that is the hook; its user data is `data`."""

    @property
    def data(self) -> int:
        """The address of this object, which has to live as long as the hook does."""

    def know(self, address: int, size: int, instructions: int, inside: bool) -> None:
        """Makes a block known: how many instructions it has, and whether it begins within a site."""

    def enter(self, address: int, size: int) -> None:
        """Counts a known block once more."""

    @property
    def last(self) -> tuple[int, int]:
        """The block that was entered last: address and size."""

    @last.setter
    def last(self, value: tuple[int, int]) -> None: ...
    @property
    def instructions(self) -> int:
        """The instructions of all blocks that were entered."""

    @instructions.setter
    def instructions(self, value: int) -> None: ...
    def taken(self, *, forget: bool = False) -> list[tuple[int, int, int]]:
        """(address, size, times) of each block that was entered since this was last asked. `forget` makes all unknown:
        the code is about to change. Raises what looking at a block raised."""

@final
class Columns:
    """The sites of an image, one entry a row and column; rows of one site lie together."""

    def __new__(
        cls,
        tables: Tables,
        tables_in_order: list[str],
        ops: list[str],
        slots: dict[int, int],
        low: int = 0,
        high: int | None = None,
    ) -> Columns:
        """`tables_in_order` is the order of rows within a site, `ops` names the ops by number, `slots` says which op
        lies at an address; with `low` and `high` those of the sites that touch [low, high), and perhaps others near."""

    def __len__(self) -> int: ...
    @property
    def rows(self) -> int:
        """How many rows there are."""

    def column(self, name: str) -> memoryview[int]:
        """A column by name: ``address``, ``key``, ``target`` (64 bits), ``len``, ``index``, ``type``, ``clobbers``,
        ``feature`` (32 bits), ``table``, ``inverted``, ``direct_call``, ``constant`` (8 bits); all bits are set where a
        row has no value. ``first`` has the first row of each site, and the number of rows behind the last."""

    def site(
        self, site: int
    ) -> tuple[
        int,
        bytes,
        list[
            tuple[
                str,
                int,
                int,
                int | None,
                str | None,
                int | None,
                int | None,
                bool | None,
                bool | None,
                int | None,
                int | None,
                str | None,
            ]
        ],
    ]:
        """(address, bytes as built, rows) of a site; a row is (table, index, length, type, op, clobbers, feature,
        inverted, direct call, key, target, constant)."""

    def within(self, low: int, high: int) -> list[int]:
        """The sites that touch [low, high), by address."""

    def at(self, address: int) -> int | None:
        """The site at this very address, or None."""

    def nearest(self, address: int) -> int | None:
        """The site whose address is nearest; None where there is no site."""

    def of_op(self, op: str) -> list[int]:
        """The sites of the op of this name, in order."""

    def counts(
        self, sites: list[int] | None = None
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]], list[tuple[str, int]], list[tuple[str, int]]]:
        """(name, how many): rows of each table, sites in each section, of each op, of several tables; of all sites, or
        of some."""

    def written(
        self, form: str, sites: list[int] | None = None, *, names: bool = True, slide: int = 0, jobs: int = 1
    ) -> Written:
        """All sites, or some, in pieces of UTF-8; `form` is ``json``, ``jsonl``, ``csv`` or ``text``. With `slide`, the
        KASLR offset, run-time addresses stand beside the linked ones."""

    def arrow(self, sites: list[int] | None = None) -> object:
        """All rows, or those of some sites, as Arrow's C stream interface has them: a capsule; without sites no number
        is copied."""

    @staticmethod
    def csv_columns() -> list[str]:
        """The columns of CSV in order."""

@final
class Written:
    """Sites on their way out: an iterator of bytes."""

    def __iter__(self) -> Written: ...
    def __next__(self) -> bytes: ...

@final
class Boot:
    """A machine, in the terms of the passes: features are numbers, functions are addresses."""

    def __new__(
        cls,
        features: list[int],
        numbers: dict[str, int],
        nops: str,
        *,
        return_thunk: int | None = None,
        uniprocessor: bool = False,
        xen: bool = False,
        template: list[Slot] | None = None,
        rules: TemplateRules | None = None,
        pointers: dict[int, int] | None = None,
        keys: dict[int, tuple[bool, bool]] | None = None,
        static_calls: dict[int, tuple[int, bool]] | None = None,
        early_calls: set[int] | None = None,
        constants: dict[str, tuple[int, bool]] | None = None,
        its_pages: list[int] = ...,
        cfi: tuple[str, int | None, bool] | None = None,
        hid_bpf: int | None = None,
        hvm_call: str | None = None,
    ) -> Boot:
        """cfi: (one of `machine.state.CFI_MODES`; the random seed or None; whether it is known), given .cfi_sites.

        hid_bpf: the trampoline that HID-BPF has attached.
        hvm_call: vmcall or vmmcall, where Xen fills the hypercall page of a guest with a machine of its own.
        """

def boot_region(
    era: str,
    bits: int,
    address: int,
    before: bytes,
    alternatives: list[tuple[int, int, bytes, int]],
    paravirt: list[tuple[int, int, int, int]],
    locks: list[int],
    text: tuple[int, int],
    boot: Boot,
) -> bytes:
    """alternative_instructions() of 2.6.x over a region of code that is not an image's.

    alternatives: (address, length, replacement, feature); paravirt: (address, type, length, clobbers).
    """

def patch_alternative(
    era: str,
    bits: int,
    nops: str,
    address: int,
    before: bytes,
    replacement_address: int,
    replacement: bytes,
    taken: bool,
    pad: int = 0,
) -> bytes:
    """One turn of apply_alternatives() over the bytes of a site."""

def patch_locks(era: str, address: int, before: bytes, locks: list[int], text: tuple[int, int], lock: bool) -> bytes:
    """alternatives_smp_unlock(), or with lock alternatives_smp_lock(), over a region of code."""

def unlocks_at_boot(era: str, processors: tuple[int, int, int, int, bool, bool]) -> bool:
    """Whether alternative_instructions() of 2.6.x patches lock prefixes out.

    processors: possible, present, online, allowed CPUs, CONFIG_HOTPLUG_CPU, noreplace-smp.
    """

def switch_locks(era: str, processors: tuple[int, int, int, int, bool, bool], unlocked: bool, smp: bool) -> bool | None:
    """What alternatives_smp_switch() of 2.6.x does: True locks, False unlocks, None is nothing."""

def pass_order(era: str | PassRules) -> list[str]:
    """The tables of an era's passes, in the order of the passes."""

def passes() -> list[tuple[str, str | None, str, str]]:
    """(name, section or array of its rows, file, function) of every pass of the kernel; None where nothing lists its
    sites."""

@final
class PassRules:
    """How the passes of a kernel decide what no table tells: small choices, given by name over those of a known era.

    A choice is a word, a bool, a number, or a list of words:

    * order: the steps of a boot, of unlisted, jump_labels, static_calls, ftrace, constants, paravirt, cfi, retpolines,
      returns, alternatives, callthunks, ibt, smp_locks, static_calls_again, updates;
    * apply_alternatives(): relocate (nothing; call: a replacement of one call; first: of one call or jump; every),
      fill (nops; ones: 90 each, then optimised), untaken (leave; pad: padding becomes nops; optimise), same_site
      (each; longest: all rows as long as the longest; once: one write, the last row taken), nops (runs; merge-jumps:
      6.5 to 6.9; merge; merge-all);
    * apply_retpolines(): retpoline_int3 (behind a jump), retpoline_cs (since 7.0), its_stride;
    * __static_call_transform(): static_zero (call, data16, cs), static_short_ret (one byte is written), static_warn,
      static_unlock, static_again (since 6.5), static_checked (the kernel stops at what is no static call);
    * alternatives_smp_unlock(): unlocked (a byte in hex), unlock_looks, unlock_remembers;
    * endbr_poison (four bytes in hex), jump_label_nops (jump_label_init() rewrites nops), nop5 (of the tracer and of
      jump labels: nopl; width: to 2.6.39; cpu), seals_hashes (poison_cfi(), since 6.5),
      far_preambles (CFI_OFFSET, since 7.0), count_alternatives.
    """

    def __new__(cls, base: str, **choices: object) -> PassRules: ...
    def choices(self) -> list[tuple[str, str]]:
        """Every choice with its value, as words."""

@final
class Slot:
    """One slot of the template: what it holds, and what the patch function does with its type."""

    def __new__(cls, pointer: str, address: int = 0, *, jump: bool = False) -> Slot: ...
    def inlined(
        self,
        code: bytes,
        *,
        only_while: int | None = None,
        no_room: str = "keep",
        relocation: tuple[int, int] | None = None,
    ) -> Slot:
        """The same slot, whose type the patch function inlines."""

    def asked(self, answer: str, address: int = 0) -> Slot:
        """The same slot, whose type VMI's ROM answers for: none, call_rel, jump_rel, nop, or another number."""

    def ignored(self) -> Slot:
        """The same slot, whose type the patch function leaves alone."""

@final
class TemplateRules:
    """The rules of an era for one kernel."""

    def __new__(
        cls,
        bits: int,
        nops: str,
        *,
        call_clobbers: int | None = None,
        null_call: int | None = None,
        no_room: str = "bug",
    ) -> TemplateRules: ...

#: (address, pass, row, bytes, kind, reason, bytes used, feature) of a write; the feature that decided, if one did:
#: (number, asked for its absence, present).
_Write = tuple[int, str, int, bytes, str, str, int, tuple[int, bool, bool] | None]

#: (address, length, table, row, forms) of bytes that are a first guess; a form is in hex, ?? where a byte may be any.
_Undetermined = tuple[int, int, str, int | None, list[str]]

@final
class UndeterminedBytes:
    """The bytes of a plan that are a first guess."""

    def sites(self, low: int = 0, high: int | None = None) -> list[_Undetermined]:
        """Those that begin in [low, high), by address."""

    def touching(self, low: int, high: int) -> list[_Undetermined]:
        """Those that touch [low, high), by address."""

    def totals(self, low: int = 0, high: int | None = None) -> tuple[int, int, list[str]]:
        """(how many bytes, at how many sites, of which tables, in the order of their first) of those that begin in
        [low, high)."""

    def of_places(self, places: list[tuple[int, int]]) -> list[bool]:
        """Of places (from, to) by address, whether each is the last that some of these bytes touch."""

@final
class Plan:
    """The ordered writes of a boot."""

    @staticmethod
    def boot(tables: Tables, boot: Boot, era: str | PassRules, places: list[tuple[int, int]] | None = None) -> Plan:
        """All passes of a boot, by the rules of an era; with `places`, (start, end), what that has there, and no more
        than is needed for it."""

    def __len__(self) -> int: ...
    def writes(self, low: int = 0, high: int | None = None) -> list[_Write]:
        """Every write, in order; with `low` and `high` those that touch [low, high)."""

    def undetermined(
        self, tables: Tables, otherwise: tuple[Boot, Boot, str | PassRules, list[int]] | None = None
    ) -> UndeterminedBytes:
        """The bytes that are a first guess; `otherwise` has the boot of the plan, the same with what the machine does
        not tell taken the other way, the rules of an era, and the numbers of the features among it."""

    def differences(
        self, other: Plan
    ) -> list[tuple[int, str, bytes, tuple[bytes, bytes], tuple[list[_Write], list[_Write]]]]:
        """(address, section, bytes as built, what each boot leaves, the writes of each there) of where another plan of
        the same image leaves other bytes, by address."""

    def arrow(self) -> object:
        """Every write as Arrow's C stream interface has it: a capsule."""

    def tables(self) -> list[str]:
        """The tables of all passes that have a row in the plan, in the order of their first."""

    def by_pass(self) -> list[tuple[str, int]]:
        """(pass, how many writes change something), in the order of their first."""

    def by_kind(self) -> list[tuple[str, int]]:
        """(kind, how many writes), most first."""

    def text(self) -> bytes:
        """.text after the writes."""

    def save(self, path: str | PathLike[str], format: str) -> None:
        """Writes the image after the writes to a file: as elf, or .text alone as text."""

    def patched_bytes(self, format: str) -> bytes:
        """What `save` would write."""

def patch_site(
    slot: Slot, rules: TemplateRules, clobbers: int, address: int, before: bytes, fill: bool = True
) -> tuple[bytes, int, str, str]:
    """One turn of apply_paravirt() over the bytes of a site: (bytes after, bytes used, kind, reason)."""

def running_kernel() -> str:
    """The path of the image that the running kernel was booted from."""

def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int] | None:
    """(eax, ebx, ecx, edx) of a CPUID leaf of the CPU this runs on; None where it is no x86."""

def fill_nops(table: str, len: int) -> bytes:
    """add_nops(): that many bytes of nops of a table."""

def write_file(path: str | PathLike[str], data: bytes) -> None:
    """Writes a file that appears whole or not at all."""

def words_of_cut_files(line: bytes, document: bytes) -> None:
    """Has a process that reads a file which was cut short (SIGBUS) say this on stderr and stdout, and end with 2."""

def measure(
    seconds: float,
    cpu: int | None = None,
    broken: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Measures for some seconds; see `pvops.bench`. `broken` is for tests of the checks: `subtraction` or `loop`.
    `progress` is called between rounds with (milliseconds done, milliseconds asked for); an exception of it ends the
    measuring."""

@final
class TicketLock:
    """The strict FIFO lock: waiters get it in the order of arrival.

    A `threading.Lock` in all that one has: `with`, `Condition`, timeouts, signals, weak references, fork. Its state is
    atomics, so that it needs no GIL; but the wheel is of the stable ABI, which builds of Python 3.13 and 3.14 without a
    GIL do not load. From source PyO3 builds it for 3.14's and later ones, where it was not tried, and not for 3.13's.

    >>> lock = pvops.TicketLock()
    >>> with lock:
    ...     lock.locked()
    True
    >>> lock.acquire(timeout=0.1), lock.acquire(timeout=0.1)
    (True, False)
    >>> lock.release()
    """

    def __new__(cls, *, waiter: str | object | None = None, counters: bool = False) -> TicketLock: ...
    def acquire(self, blocking: object = True, timeout: float = -1.0) -> bool:
        """Acquires, in the order of arrival where the lock has one: as `threading.Lock.acquire`, timeout in seconds.

        A signal whose handler raises ends the wait at once. Who gives up leaves the queue: nobody waits for it.
        """

    def release(self) -> None:
        """Releases: as `threading.Lock.release`."""

    def _at_fork_reinit(self) -> None:
        """Makes it free in the child of a fork, where no other thread is: as `threading.Lock`."""

    def locked(self) -> bool:
        """Whether someone holds it."""

    @property
    def contended(self) -> bool:
        """Whether someone waits for it."""

    def counts(self) -> tuple[int, int, int, int] | None:
        """(spins, slow paths, kicks, waits) since birth; None where counting is off."""

    def pairs(self, n: int = 100_000) -> float:
        """Nanoseconds of an acquisition and a release: the mean over n, without a call from Python between them."""

    def __enter__(self) -> bool: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class HybridLock:
    """The stealing lock: who finds it free has it, and who waits for long is handed it.

    A `threading.Lock` in all that one has: `with`, `Condition`, timeouts, signals, weak references, fork. Its state is
    atomics, so that it needs no GIL; but the wheel is of the stable ABI, which builds of Python 3.13 and 3.14 without a
    GIL do not load. From source PyO3 builds it for 3.14's and later ones, where it was not tried, and not for 3.13's.

    >>> lock = pvops.HybridLock()
    >>> with lock:
    ...     lock.locked()
    True
    >>> lock.acquire(timeout=0.1), lock.acquire(timeout=0.1)
    (True, False)
    >>> lock.release()
    """

    def __new__(cls, *, waiter: str | object | None = None, counters: bool = False) -> HybridLock: ...
    def acquire(self, blocking: object = True, timeout: float = -1.0) -> bool:
        """Acquires, in the order of arrival where the lock has one: as `threading.Lock.acquire`, timeout in seconds.

        A signal whose handler raises ends the wait at once. Who gives up leaves the queue: nobody waits for it.
        """

    def release(self) -> None:
        """Releases: as `threading.Lock.release`."""

    def _at_fork_reinit(self) -> None:
        """Makes it free in the child of a fork, where no other thread is: as `threading.Lock`."""

    def locked(self) -> bool:
        """Whether someone holds it."""

    @property
    def contended(self) -> bool:
        """Whether someone waits for it."""

    def counts(self) -> tuple[int, int, int, int] | None:
        """(spins, slow paths, kicks, waits) since birth; None where counting is off."""

    def pairs(self, n: int = 100_000) -> float:
        """Nanoseconds of an acquisition and a release: the mean over n, without a call from Python between them."""

    def __enter__(self) -> bool: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class Unkicked:
    """Whether a waiter has not been kicked yet: what a `lock_spinning` written in Python calls before it sleeps."""

    def __call__(self, *args: object, **kwargs: object) -> bool: ...

def lock_asymmetric() -> bool:
    """Whether waiters fence for those who release (`membarrier`), or each release for itself."""

def lock_bench_names() -> list[str]:
    """The locks that the harness knows, by their Rust paths, ours first."""

def lock_bench_pair(name: str, pairs: int) -> float:
    """Nanoseconds of an uncontended pair: the mean over so many."""

def lock_bench_contend(
    name: str,
    threads: int,
    cpus: Sequence[int],
    work_ns: tuple[int, int],
    seconds: tuple[float, float],
) -> tuple[float, float, float, float, float]:
    """A lock shared by threads, which hold it and pause for so many nanoseconds, measured for so many seconds after so
    many: (ops a second, wait p50, p99.9 and longest in µs, fairness)."""

def lock_bench_limits(cpus: Sequence[int], seconds: float) -> tuple[float, float, float]:
    """The machine's limits in nanoseconds: (locked xadd and store, futex hand-over on one CPU, to another CPU)."""

def lock_bench_mode(cpus: Sequence[int], seconds: float) -> float:
    """In which mode the machine is: nanoseconds for a cache line to go from the first of these CPUs to the second."""

#: (name, slot address to what it may hold, key of a static call to where it may go, a feature without which it is not
#: this one, the key of a static call that may go to a page outside).
_Backend = tuple[str, dict[int, list[int]], dict[int, list[int]], int | None, int | None]

#: What a patch function does with an op: (code, the function its slot must hold, the feature that forbids it, whether
#: its sites jump, what guests' patch functions copy: (the function that the slot holds, code, offset and target of a
#: relative call)).
_Inlined = tuple[bytes | None, int | None, int | None, bool, list[tuple[int, bytes, tuple[int, int] | None]]]

@final
class KernelInfo:
    """What the image and its era say, in numbers and addresses."""

    def __new__(
        cls,
        numbers: dict[str, int],
        nops: list[str],
        *,
        inlined: list[_Inlined] = ...,
        nop: int | None = None,
        identities: dict[int, int] = ...,
        bug: int | None = None,
        call_clobbers: int | None = None,
        places: list[int] = ...,
        may_stay: bool = False,
        backends: list[_Backend] = ...,
    ) -> KernelInfo:
        """`numbers` are those of retpoline, retpoline_lfence, rethunk, its, call_depth and xenpv; `nops` the tables the
        kernel chooses from; `inlined` is by op type; `identities` are functions that return their argument → its bits;
        `call_clobbers` is what a call may not clobber unless its site lets go of it; `places` are the slots by op type,
        where they are no one array; `may_stay` says that the kernel has an option by which calls stay as built;
        `backends` are what may fill the ops."""

@final
class Known:
    """What the user knows of the machine."""

    def __new__(
        cls,
        *,
        nops: str | None = None,
        uniprocessor: bool | None = None,
        features: dict[int, bool] = ...,
        return_thunk: int | None = None,
        slots: dict[int, int] = ...,
        keys: dict[int, bool] = ...,
        calls: dict[int, int] = ...,
        constants: dict[str, int] = ...,
        backend: str | None = None,
    ) -> Known: ...

#: (address, bytes, who writes such, where they branch to).
_Owned = tuple[int, bytes, list[str], int | None]
#: (address, expected, found, wrong bytes, (address, expected, found) of the site, pass, what others wrote, nearest
#: form, suspects).
_Run = tuple[
    int,
    bytes,
    bytes,
    int,
    tuple[int, bytes, bytes],
    str | None,
    _Owned | None,
    str | None,
    list[int],
]

@final
class Report:
    """What was found in memory."""

    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def explained(self) -> list[tuple[str, int]]: ...
    @property
    def unread(self) -> list[tuple[int, int]]: ...
    @property
    def poked(self) -> list[int]:
        """Where text was being written when memory was taken; it is judged as it will be."""

    @property
    def backends(self) -> list[str]:
        """The backends that fit; several, where the text cannot tell them apart."""

    @property
    def features(self) -> list[int]: ...
    @property
    def branches(self) -> str: ...
    @property
    def nops(self) -> str: ...
    @property
    def return_thunk(self) -> int | None: ...
    @property
    def uniprocessor(self) -> bool: ...
    @property
    def xen(self) -> bool: ...
    @property
    def early_calls(self) -> list[int]: ...
    @property
    def its_pages(self) -> list[int]: ...
    def unexplained(self) -> list[_Run]:
        """Runs that nothing accounts for, by address."""

    def votes(self, about: list[str] | None = None) -> list[tuple[str, int, int, int, int, bool]]:
        """(about what, which one, its value, sites for it, sites against it, whether the user said so); with `about`
        only what is about one of these."""

    def spans(self) -> tuple[bytes, bytes, bytes, list[str]]:
        """The stretches that passes changed, as columns: addresses, lengths and tables, 8, 4 and 1 bytes each, the last
        a number in the list of names."""

    def spans_arrow(self) -> object:
        """The same as Arrow's C stream interface has it: a capsule."""

    def votes_arrow(self) -> object:
        """The votes as Arrow's C stream interface has them: a capsule."""

    @property
    def loaded(self) -> list[tuple[str, int, int, int, bool]] | None:
        """(name, run-time address of its code, bytes of it, bytes of all that stays loaded, whether it is up).

        The newest first; None where the list of modules could not be read.
        """

    @property
    def not_listed(self) -> str | None:
        """Why the list of modules could not be read."""

    def modules(self) -> list[Module]:
        """The modules that were judged, the oldest first."""

@final
class Module:
    """A judged module. Its addresses are as if the kernel had not slid."""

    @property
    def name(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def unknown(self) -> int:
        """Bytes of fields that refer to what was freed."""

    @property
    def constants(self) -> tuple[int, list[tuple[int, int]]]:
        """Its constants: how many bytes were held to the file, and (start, end) of what could not be read."""

    def changed(self) -> list[tuple[int, bytes, bytes]]:
        """(address, what the file has, what memory has) where its constants differ."""

    @property
    def explained(self) -> list[tuple[str, int]]: ...
    @property
    def unread(self) -> list[tuple[int, int]]: ...
    def unexplained(self) -> list[_Run]:
        """Runs that nothing accounts for, by address."""

    def votes(self) -> list[tuple[str, int, int, int, int, bool]]:
        """How the state of what is the module's own was found; as in `Report.votes`."""

    def place(self, address: int) -> tuple[str, int] | None:
        """The symbol that an address belongs to, of the module or of the kernel, and the offset into it."""

    def disassemble(self, address: int, code: bytes) -> list[str]:
        """Code as text, with the names of the module and of the kernel."""

@final
class Verifier:
    """Judges memory by an image; what is made of the image alone is made once, for the slide last asked for."""

    def __new__(cls, tables: Tables, era: str | PassRules, info: KernelInfo) -> Verifier: ...
    def verify(self, known: Known, found: Location, modules: Sequence[Image] = ..., jobs: int | None = None) -> Report:
        """Judges what memory holds of the image's ``.text``, and of modules.

        Modules are listed whether any is given or not; where one is given, a list that cannot be read is an error.
        """

@final
class Heard:
    """What the data of a kernel say."""

    @property
    def counts(self) -> list[tuple[str, int]]:
        """(kind, how many were heard)."""

    @property
    def disagreements(self) -> list[tuple[str, int, int, int, int]]:
        """(kind, address, which, what the text says, what the data say)."""

    @property
    def alone(self) -> list[int]:
        """Static keys of which nothing tells but their text and their count."""

    @property
    def unheard(self) -> list[str]:
        """What could not be heard, and why."""

    @property
    def rodata(self) -> tuple[int, int, int, int, tuple[int, int]] | None:
        """``.rodata``: (size, wrong bytes, first address, end, (start, end) of what the kernel writes at boot)."""

    @property
    def why(self) -> str | None:
        """Why ``.rodata`` is not judged."""

    @property
    def unread(self) -> list[tuple[int, int]]:
        """(start, end) of what of ``.rodata`` could not be read."""

    @property
    def held(self) -> list[tuple[int, int]]:
        """(start, end) of what is written at boot and was held to the file: tables, by their rows, and vDSOs."""

    @property
    def judged(self) -> list[tuple[int, int]]:
        """(start, end) of all that was held to the file, what boot writes of ``.rodata`` included."""

    @property
    def tables(self) -> tuple[list[str], int]:
        """Sections elsewhere that were held to the file; how many pointers in what boot writes were looked at."""

    def changed(self) -> list[tuple[int, bytes, bytes]]:
        """(address, what the file has, what memory has) where ``.rodata`` differs."""

def registered(
    found: Location,
) -> tuple[
    list[tuple[str, int, int, int | None]],
    list[tuple[int, int, str, list[int] | None]] | None,
    list[tuple[int, int]] | None,
    tuple[int | None, bool | None],
    list[int],
    list[int],
    list[str],
    list[tuple[str, str]],
]:
    """Who has registered with the kernel to change its text; all addresses are run-time ones.

    (owner, where text is changed, what is called then or 0, where it branches; 0 for nowhere, None where the list does
    not say) of each; (trampoline or 0, function, owner, what it traces or None for all) of who traces, and (function,
    target) of BPF dispatchers, None where they could not be read; what the tracer's code calls; where probes are by
    entries in the lists of other addresses; which functions of modules are traced by records alone; whose lists were
    read; (owner, why) of what was not.
    An error where memory has no such lists.
    """

def hear(report: Report, info: KernelInfo, slots: list[int], found: Location) -> Heard | None:
    """Hears the data of a kernel whose text was judged; None where memory has none."""

_Case = tuple[str, str | None, str, int, int | None, int | None]
_Event = tuple[int, bool, int, str, list[tuple[str, int]], list[list[tuple[str, int]]]]

def lock_protocols() -> list[tuple[str, list[str], list[str]]]:
    """(name, mutants, scenarios) of each protocol."""

def lock_standard() -> list[_Case]:
    """(protocol, mutant, scenario, threads, slots, acquisitions) of each case checked when none is named."""

def lock_uncatchable() -> list[tuple[str, str]]:
    """(mutant, why it cannot be caught)."""

def lock_check(of: _Case, states: int) -> tuple[int, bool, str | None, str | None, list[_Event]]:
    """Checks a case, seeing at most so many states: (states, finished, what is broken, in words, the run)."""

def lock_follow(
    of: _Case, run: list[tuple[int, str, list[tuple[str, int]]]], buffers: bool
) -> tuple[int, tuple[str, str] | None]:
    """Takes a run that something else made, (thread, line, variables before it), in the model: the most states that it
    leaves open at one time, and the name and words of what its last line breaks, or that nobody can go on behind it."""

def lock_replay(of: _Case, run: list[tuple[int, bool, int, str]]) -> tuple[str, str]:
    """Takes a run again: (what it breaks, in words)."""

def usual_threshold_us(protocol: str) -> float | None:
    """The usual threshold of a protocol in µs; None where it never blocks."""

def simulated_names() -> tuple[list[str], list[str]]:
    """The names of the protocols and of the schedulers that can be simulated."""

def simulate_lock(
    *,
    protocol: str,
    threshold_us: float | None,
    vcpus: int,
    pcpus: int,
    vms: int,
    locks: int,
    scheduler: str,
    seed: int,
    duration: float,
    think: tuple[str, float],
    hold: tuple[str, float],
    slice_us: float,
    switch_us: float,
    kick_us: float,
    exit_us: float,
    ple_us: float | None,
    patience_us: float,
    irq_interval: tuple[str, float] | None,
    irq_hold: tuple[str, float],
    ticket_bits: int | None,
    window: tuple[int, int, int] | None,
) -> dict[str, Any]:
    """Simulates one case, without the GIL; a signal ends it. Distributions are (kind, mean in µs), the window is
    (from, to, most spans), times in ps."""
