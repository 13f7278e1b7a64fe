"""Whole commands beside unpacking the same kernel and starting Python, which no command can do without: in one run.

    PVOPS_KERNELS=… python benches/commands.py [--busy]

Kernels of Debian's 6.1 and 6.12 as they are (xz and zstd), and 6.1 packed with zstd and lz4. Seconds of processor time,
user and system, of processes from start to end: medians of rounds that alternate between commands, files in the page
cache, standard output dropped; with ``--busy`` beside one process that keeps a CPU and its caches busy. The goals stand
beside the commands; nothing fails because one is missed.

What is done on an open kernel in Python, look-ups and judging memory again, is measured in processes of its own, in
turn with the same unpacking. Peers stand beside the commands that do their job.

Where unpacking is fast, goals are out of reach. Millions of instructions, by callgrind under CPython 3.11: starting
Python takes 39, argparse and what it imports 43 more. Unpacking 6.1's lz4 takes 116, so that a tenth of both, which a
goal of 1.1 leaves, is 15: less than argparse alone. On 6.12 (zstd, 674) a tenth is 71, and finding the symbols in the
image, which nearly all commands do, takes 78. Above unpacking and Python, `ops` takes 313 there, `sites --summary` 396,
`explain` 646, `verify` 835 and an ELF file 1,003.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from support.given import RELEASE, kernel, module, tool
from support.packed import Packed, as_it_is, repacked
from support.rounds import LIMIT, OURS, PEER, Job, measure, spent_by_children

ROUNDS = 5
#: Seconds. What takes longer runs once: objdump and vmlinux-to-elf do.
SLOW = 6.0

LATER = "6.12.117+deb12-amd64"

#: What every command does first.
START = "unpack, and start Python"

#: What is said of jobs that run beside a busy process.
BESIDE = ", beside a busy process" if "--busy" in sys.argv[1:] else ""
#: What that process does: walks through more memory than caches hold.
BUSY = "m = bytearray(64 << 20)\nwhile True:\n    for at in range(0, len(m), 64): m[at] = at & 255"

PVOPS = [sys.executable, "-m", "pvops"]


class Command(NamedTuple):
    """A command of ours.

    Attributes:
        words: its arguments; ``{kernel}``, ``{text}``, ``{out}`` and ``{machine}`` are filled in.
        goal: how many times what every command does first it should take at most.
        status: its exit status.
    """

    words: str
    goal: float
    status: int = 0

    @property
    def name(self) -> str:
        """As the table has it."""
        shown = {"{text}": "TEXT", "{out}": "OUT"}
        words = [shown.get(word, word) for word in self.words.split() if word not in ("{kernel}", "{machine}")]
        return f"pvops {' '.join(words)} (goal {self.goal:g})"


COMMANDS = (
    Command("sites {kernel} --summary", 1.1),
    Command("ops {kernel}", 1.1),
    Command("explain {kernel} do_syscall_64", 1.1),
    Command("patch {kernel} --format text -o {out} {machine}", 1.1),
    Command("patch {kernel} -o {out} {machine}", 1.2),
    Command("verify {kernel} {text}", 1.1),
    Command("diff {kernel} native kvm --summary", 1.4, 1),
)
ROWS = (
    Command("sites {kernel} --json", 1.8),
    Command("sites {kernel} --jsonl", 1.8),
    Command("sites {kernel} --csv", 1.8),
)
#: Each beside the same command with something to find.
FAILING = (
    (Command("explain {kernel} do_syscall_65", 1.0, 2), Command("explain {kernel} do_syscall_64", 1.1)),
    (Command("explain {kernel} 0xffffffff71000000", 1.0, 2), Command("explain {kernel} do_syscall_64", 1.1)),
    (Command("patch {kernel} --backend kmv -o {out}", 1.0, 2), Command("patch {kernel} -o {out}", 1.2)),
    (Command("sites {kernel} --op pv_irq_ops.irq_disabel", 1.0, 2), Command("sites {kernel} --summary", 1.1)),
)


def ended(status: int, command: list[str]) -> None:
    """Runs a command to its end; what it prints is dropped."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode != status:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.decode()[-400:]}")


def all_ended(commands: list[list[str]]) -> None:
    """Runs commands one after the other."""
    for command in commands:
        ended(0, command)


def started(packed: Packed) -> None:
    """Unpacks a kernel, and starts Python."""
    all_ended([packed.unpack, [sys.executable, "-c", "pass"]])


class Given:
    """A kernel, and what commands about it are given."""

    def __init__(self, packed: Packed, facts: Path | None, folder: Path) -> None:
        self.packed = packed
        self.text = folder / f"{packed.path.name}.text"
        #: Of another boot: another hypervisor's.
        self.other = folder / f"{packed.path.name}.other"
        self.out = folder / f"{packed.path.name}.out"
        self._machine = ["--machine", str(facts)] if facts is not None and facts.exists() else []
        text = [*PVOPS, "patch", str(packed.path), "--format", "text", "-o"]
        ended(0, [*text, str(self.text), *self._machine])
        ended(0, [*text, str(self.other), "--backend", "kvm"])

    @property
    def about(self) -> str:
        """The kernel as titles have it."""
        release = self.packed.path.name.removeprefix("vmlinuz-").removesuffix(f"-{self.packed.codec}")
        return f"{release}, {self.packed.codec}{BESIDE}"

    def run(self, command: Command) -> Callable[[], object]:
        """What runs a command."""
        held = {"{kernel}": self.packed.path, "{text}": self.text, "{out}": self.out}
        words: list[str] = []
        for word in command.words.split():
            words += self._machine if word == "{machine}" else [str(held.get(word, word))]
        return partial(ended, command.status, [*PVOPS, *words])

    def job(self, title: str, commands: tuple[Command, ...], peers: Mapping[str, list[str]] | None = None) -> Job:
        """Commands beside what each does first, and beside peers, which read the ELF file that is unpacked for them."""
        runs: dict[str, Callable[[], object]] = {START: partial(started, self.packed)}
        runs |= {command.name: self.run(command) for command in commands}
        for name, words in (peers or {}).items():
            first = [] if str(self.packed.path) in words else [self.packed.unpack]
            runs[name] = partial(all_ended, [*first, words])
        roles = {name: OURS if name.startswith("pvops ") else PEER for name in runs} | {START: LIMIT}
        return Job(f"{title}, {self.about}", runs, roles, spent_by_children)


def unpacked_to(packed: Packed, path: Path) -> Path:
    """The kernel's ELF file."""
    with path.open("wb") as out:
        subprocess.run(packed.unpack, stdout=out, check=True)
    return path


def peers_of_rows(vmlinux: Path) -> dict[str, list[str]]:
    """Who disassembles a kernel's code, or the sites of a table."""
    found = {}
    if tool("objdump"):
        found["objdump -d, all code and no table"] = ["objdump", "-d", str(vmlinux)]
    if module("capstone") and module("elftools.elf.elffile"):
        script = Path(__file__).with_name("support") / "capstone_rows.py"
        found["pyelftools + capstone, .altinstructions alone"] = [sys.executable, str(script), str(vmlinux)]
    return found


def peers_of_ops(vmlinux: Path) -> dict[str, list[str]]:
    """Who prints the structures of ops from BTF."""
    found = {}
    if tool("pahole"):
        found["pahole -C paravirt_patch_template"] = ["pahole", "-C", "paravirt_patch_template", str(vmlinux)]
    if tool("bpftool"):
        found["bpftool btf dump, all types"] = ["bpftool", "btf", "dump", "file", str(vmlinux), "format", "c"]
    return found


def peers_of_elf(given: Given) -> dict[str, list[str]]:
    """Who makes an ELF file with symbols of a vmlinuz; as built, not as it runs."""
    if not module("vmlinux_to_elf"):
        return {}
    words = [sys.executable, "-m", "vmlinux_to_elf.scripts.vmlinux_to_elf", str(given.packed.path), str(given.out)]
    return {"vmlinux-to-elf, as built": words}


_OPEN = "import pvops, sys; k = pvops.open(sys.argv[1]); "
#: What is done on an open kernel: (goal, what is done before that, what is done).
_ON_OPEN = {
    "len(sites)": (0.05, "", "len(k.sites)"),
    'sites.count("op")': (0.05, "len(k.sites)", 'k.sites.count("op")'),
    "1,000 look-ups by address, range and nearest": (
        0.05,
        "len(k.sites); low, high = k.sites[0].address, k.sites[0].address + (8 << 20)",
        "for a in range(low, high, (high - low) // 333): k.sites.at(a); k.sites.within(a, a + 64); k.sites.nearest(a)",
    ),
    "all Sites and their addresses": (0.5, "len(k.sites)", "for s in k.sites: s.address"),
    "verify(text) again": (0.03, "k.verify(t)", "bool(k.verify(t))"),
    "verify(text) of another boot": (0.03, "k.verify(other)", "bool(k.verify(t))"),
}


def on_open(given: Given) -> Job:
    """What Python does with an open kernel, timed by the process that does it."""
    clock = Clock()

    def run(before: str, what: str) -> None:
        script = (
            f"{_OPEN}t, other = (open(path, 'rb').read() for path in sys.argv[2:]); import time\n{before}\n"
            f"began = time.process_time()\n{what}\nprint(time.process_time() - began)"
        )
        command = [sys.executable, "-c", script, given.packed.path, given.text, given.other]
        clock.add(float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))

    def start() -> None:
        began = spent_by_children()
        started(given.packed)
        clock.add(spent_by_children() - began)

    runs: dict[str, Callable[[], object]] = {START: start}
    for name, (goal, before, what) in _ON_OPEN.items():
        runs[f"pvops, {name} (goal {goal:g})"] = partial(run, before, what)
    roles = {name: OURS if name.startswith("pvops") else LIMIT for name in runs}
    return Job(f"on an open kernel, {given.about}", runs, roles, clock)


class Clock:
    """Seconds that were added to it."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """Adds what a process says it took."""
        self._seconds += seconds

    def __call__(self) -> float:
        return self._seconds


def jobs(folder: Path) -> Iterator[Job]:
    """What is compared."""
    for release in (RELEASE, LATER):
        path = kernel(release)
        if path is None or not tool("xz"):
            continue
        facts = path.parents[1] / "boots" / f"{release}~native-max-smp2.facts"
        given = Given(as_it_is(path, folder), facts, folder)
        vmlinux = unpacked_to(given.packed, folder / f"{path.name}.elf")
        yield given.job("whole commands", COMMANDS)
        yield given.job("every row of every table", ROWS, peers_of_rows(vmlinux))
        yield given.job("the structures of ops", COMMANDS[1:2], peers_of_ops(vmlinux))
        yield given.job("an ELF file", COMMANDS[4:5], peers_of_elf(given))
        for failing, hit in FAILING:
            runs = {failing.name: given.run(failing), hit.name: given.run(hit)}
            roles = {failing.name: OURS, hit.name: LIMIT}
            yield Job(f"a failing command, {given.about}", runs, roles, spent_by_children)
        yield on_open(given)
        for codec in ("zstd", "lz4"):
            if release == RELEASE and tool(codec):
                other = Given(repacked(path, codec, folder), facts, folder)
                yield other.job("whole commands", COMMANDS)
                yield other.job("every row of every table", ROWS)


@contextmanager
def busy() -> Iterator[None]:
    """Keeps a process busy meanwhile."""
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    with busy() if BESIDE else nullcontext():
        measure(jobs, ROUNDS, median, SLOW)
