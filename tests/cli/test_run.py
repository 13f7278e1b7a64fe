"""``pvops run``: what it prints, writes and says."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from cli.run import document, pvops, trouble
from pvops.emulate.guest import locks

#: The columns of the contract.
KEYS = {
    *("guest", "era", "backend", "patched", "lazy", "instructions", "indirect_calls", "hypercalls", "queued"),
    *("batches", "ops", "forms", "final_state"),
}


def test_without_arguments_it_runs_everything() -> None:
    runs = document("run")["runs"]
    assert len(runs) == (4 * (4 + 5) + 2 * 3) * 2 * 2
    assert all(run.keys() >= KEYS for run in runs)
    states: dict[str, set[str]] = {}
    assert {run["bits"] for run in runs if run["guest"] == "tour64"} == {64}
    for run in runs:
        states.setdefault(run["guest"], set()).add(run["final_state"])
        assert isinstance(run["instructions"], int)
        assert all(isinstance(n, int) for counts in ("hypercalls", "queued", "ops") for n in run[counts].values())
        assert sum(run["hypercalls"].values()) == 0 or run["backend"] != "native"
    assert all(len(found) == 1 for found in states.values())
    assert len(set.union(*states.values())) == len(states) == 5


def test_a_run_is_the_same_each_time() -> None:
    first, second = (document("run", "lock", "--era", "seed") for _ in range(2))
    for run in (*first["runs"], *second["runs"]):
        del run["seconds"]
    assert first == second


def test_text_says_what_lazy_mode_saves() -> None:
    done = pvops("run", "switch", "--era", "seed", "--backend", "lguest")
    assert done.returncode == 0
    text = done.stdout.decode()
    assert "150 hypercalls with lazy mode for 934 without, 1 : 6.2" in text
    assert "SET_PTE (14) 768" in text


def test_rows() -> None:
    done = pvops("run", "lock", "--era", "seed", "--csv")
    rows = list(csv.DictReader(done.stdout.decode().splitlines()))
    assert len(rows) == 4 * 4
    lines = pvops("run", "lock", "--era", "seed", "--jsonl").stdout.decode().splitlines()
    assert [json.loads(line)["final_state"] for line in lines] == [row["final_state"] for row in rows]


def test_a_page_has_the_timelines(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    assert pvops("run", "switch", "--backend", "lguest", "--html", page).returncode == 0
    text = page.read_text()
    pictures = text.split("<svg")[1:]
    assert len(pictures) == 2
    for picture in pictures:
        tree = ElementTree.fromstring("<svg" + picture.split("</svg>")[0] + "</svg>")
        marks = [p for p in tree.iter("path") if p.get("stroke", "").startswith("#")]
        assert len(marks) == 3, "traps without lazy mode; traps and batched calls with it"
    assert "<script" not in text


def test_a_trace_shows_each_op_with_its_arguments() -> None:
    done = pvops("run", "lock", "--era", "seed", "--backend", "lguest", "--patched", "--lazy", "--trace")
    lines = [line for line in done.stdout.decode().splitlines() if "pv_irq_ops.restore_fl(" in line]
    assert len(lines) == 256
    assert all("pv_irq_ops.restore_fl(0x200, " in line for line in lines)


def test_the_image_opens_as_a_kernel(tmp_path: Path) -> None:
    image = tmp_path / "vmlinux"
    assert pvops("run", "lock", "--era", "seed", "--image", image).returncode == 0
    sites = document("sites", image)["sites"]
    assert {"pv_irq_ops.irq_disable", "pv_irq_ops.restore_fl"} <= {row["op"] for s in sites for row in s["rows"]}


def test_a_guest_of_ones_own(tmp_path: Path) -> None:
    good = tmp_path / "guest.py"
    good.write_text(
        "from pvops.emulate.guest.program import Call, Loop, Program\n"
        'program = Program("mine", "", (Loop(3, (Call("pv_irq_ops.irq_enable"),)),))\n'
    )
    run = document("run", good, "--backend", "native", "--patched", "--lazy", "--era", "seed")["runs"][0]
    assert (run["guest"], run["ops"]["pv_irq_ops.irq_enable"]) == ("mine", 3)
    bad = tmp_path / "bad.py"
    bad.write_text("program = 1")
    assert "defines no `program`" in trouble("run", bad)
    bad.write_text("raise ValueError('no')")
    assert "ValueError: no" in trouble("run", bad)
    assert "cannot read" in trouble("run", tmp_path / "none.py")


def test_a_guest_that_ends_badly_is_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        "from pvops.assembler.x86 import ud2\nfrom pvops.emulate.guest.program import Program, Raw\n"
        'program = Program("bad", "", (Raw((ud2(),)),))\n'
    )
    done = pvops("run", bad, "--era", "seed", "--backend", "xen", "--patched", "--lazy", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["runs"][0]["stop"], found["runs"][0]["final_state"]) == ("bug", "")
    assert found["wrong"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing"], "no guest nothing (there are boot, switch, lock, tour, tour64)"),
        (["--era", "6.1"], "no guests of era 6.1"),
        (["--backend", "bochs"], "runs under bochs (there are native, lguest, xen"),
        (["--nops", "k9"], "no nop table k9"),
        (["--without", "lock"], "CONFIG_PARAVIRT_LOCK"),
        (["--length", "999"], "254"),
        (["--instructions", "0"], "at least one"),
        (["--image", "x"], "one guest of one era"),
    ],
)
def test_what_makes_no_sense_is_said(words: list[str], says: str) -> None:
    assert says in trouble("run", *words)


def test_a_limit_ends_a_run() -> None:
    done = pvops("run", "lock", "--era", "seed", "--backend", "native", "--instructions", "1000")
    assert done.returncode == 1
    assert "more than 1,000 instructions" in done.stdout.decode()


def test_without_the_emulator_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "unicorn.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "pvops", "run"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode().splitlines() == ["pvops: running guests needs Unicorn: the extra `run`"]


def test_locks_run_on_several_virtual_cpus() -> None:
    runs = document("run", "pv-ticket-4.0", "--vcpus", "3", "--pcpus", "2", "--slice", "100", "--schedules", "2")[
        "runs"
    ]
    assert {r["backend"] for r in runs} == {"native", "kvm", "xen", "hyperv", "hyperv-spin"}
    for row in runs:
        assert set(row) >= KEYS | {"vcpus", "pcpus", "scheduler", "seed", "locks"}
        assert (row["vcpus"], row["pcpus"], row["verdict"]) == (3, 2, "kept")
        (lock,) = row["locks"]
        assert set(lock) >= {"protocol", "acquisitions", "slow_paths", "kicks", "polls", "waits"}
        assert lock["acquisitions"] == 2 * 3 * 4
    assert len({row["final_state"] for row in runs}) == 1


def test_physical_cpus_that_nobody_can_use_are_named() -> None:
    done = pvops("run", "ticket-2.6.25", "--vcpus", "2", "--pcpus", "4", "--bits", "32", "--patched", "--json")
    assert done.returncode == 0
    assert done.stderr.decode() == "pvops: --pcpus 4: 2 virtual CPUs use no more than 2, the others stay idle\n"


def test_a_planted_bug_in_a_lock_is_a_verdict_and_no_failure() -> None:
    done = pvops(
        "run", "ticket-2.6.25", "--vcpus", "2", "--mutant", "ticket-wrap", "--turns", "140", "--bits", "32", "--patched"
    )
    assert done.returncode == 0
    assert b"lost-kick in 1 of 1" in done.stdout


def test_a_mutant_is_one_or_all_or_none_as_in_the_checker() -> None:
    def rows(*words: str) -> set[tuple[str, str | None]]:
        same = ("--vcpus", "2", "--bits", "32", "--patched", "--backend", "xen", "--json")
        done = pvops("run", *words, *same)
        assert done.returncode == 0, done.stderr
        return {(row["locks"][0]["protocol"], row["mutant"]) for row in json.loads(done.stdout)["runs"]}

    assert rows("pv-ticket-3.12", "--mutant", "none") == rows("pv-ticket-3.12") == {("pv-ticket-3.12", None)}
    mutants = locks.protocol("pv-ticket-3.12").mutants
    assert rows("pv-ticket-3.12", "--mutant", "all") == {("pv-ticket-3.12", m) for m in (None, *mutants)}
    # Without a lock named: every lock that has the mutant.
    assert rows("--mutant", "missing-fence") == {(n, "missing-fence") for n in locks.having("missing-fence")}


def test_what_belongs_to_guests_on_one_cpu_is_refused_for_locks() -> None:
    assert "not with --vcpus" in trouble("run", "--vcpus", "2", "--era", "seed")
    assert "not with --vcpus" in trouble("run", "--vcpus", "2", "--nops", "k7")
    assert "no lock boot" in trouble("run", "boot", "--vcpus", "2")
    assert "--vcpus 4294967296: 1 to 32" in trouble("run", "pv-ticket-4.0", "--vcpus", "4294967296")


def test_what_belongs_to_locks_is_refused_for_guests_on_one_cpu() -> None:
    said = "pvops: --store-buffers is for locks on several virtual CPUs: give --vcpus too"
    assert trouble("run", "boot", "--store-buffers") == said
    assert "--seed is for locks" in trouble("run", "boot", "--seed", "0")
    assert "of x86-64" in trouble("run", "--vcpus", "2", "--user", "--bits", "32")
    assert "no ticks" in trouble("run", "--vcpus", "2", "--tick-sleepers")
