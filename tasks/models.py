"""The locks' models: searched with loom, sampled with shuttle, their memory watched by Valgrind."""

from __future__ import annotations

import shutil

from .environment import VENV, environment
from .shell import ROOT, Options, run, say
from .tools import need_rust

#: The locks' models: what cargo is told, and where it builds.
MODELS = ("--locked", "--manifest-path", "models/Cargo.toml")
MODELS_TARGET = ROOT / "target" / "models"


def model(kind: str, flags: str, *words: str) -> None:
    """Runs the tests of the locks' models under loom or shuttle."""
    env = {"RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(MODELS_TARGET / kind)}
    run("cargo", "test", "--quiet", *MODELS, "--test", kind, *words, env=env)


def locks(options: Options) -> None:
    """Searches the locks' interleavings with loom, bugs planted or not, and watches their memory."""
    need_rust()
    target = MODELS_TARGET
    model("loom", "--cfg loom --cfg mutants")
    # An incremental build has the rare path of a release behind a jump, which its test of machine code does not take.
    env = {"CARGO_TARGET_DIR": str(target / "machine"), "CARGO_INCREMENTAL": "1"}
    run("cargo", "test", "--quiet", *MODELS, env=env)
    run("cargo", "check", "--quiet", "--lib", "--no-default-features", "--features", "alone", *MODELS, env=env)
    if shutil.which("valgrind") is None:
        say("valgrind is missing (`apt install valgrind`): the locks' memory is not watched")
        return
    tests_of_memory = [path for path in (target / "machine" / "debug" / "deps").glob("memory-*") if not path.suffix]
    newest = max(tests_of_memory, key=lambda path: path.stat().st_mtime)
    run("valgrind", "--quiet", "--error-exitcode=9", "--fair-sched=yes", newest)


def locks_long(options: Options) -> None:
    """What `ci` has no time for: loom without a bound, shuttle's samples of more threads, schedules of guests."""
    need_rust()
    environment()
    run(VENV / "bin" / "python", "-m", "emulate.schedules", "--each", "1000", env={"PYTHONPATH": "tests"})
    model("loom", "--cfg loom --cfg mutants", "--", "--ignored")
    model("shuttle", "--cfg shuttle")
