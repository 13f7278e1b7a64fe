"""docs/running-a-guest.md and docs/locks-on-virtual-cpus.md say what runs say."""

from __future__ import annotations

import doctest
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_tables_are_current() -> None:
    page = (DOCS / "running-a-guest.md").read_text()
    made = runpy.run_path(str(DOCS / "make_running_a_guest.py"))["current"](page)
    assert page == made, "run: python docs/make_running_a_guest.py"


def test_tables_of_locks_are_current() -> None:
    page = (DOCS / "locks-on-virtual-cpus.md").read_text()
    made = runpy.run_path(str(DOCS / "make_locks_on_virtual_cpus.py"))["current"](page)
    assert page == made, "run: python docs/make_locks_on_virtual_cpus.py"


def test_examples_work() -> None:
    text = (DOCS / "running-a-guest.md").read_text()
    examples = doctest.DocTestParser().get_doctest(text, {}, "running-a-guest.md", None, None)
    results = doctest.DocTestRunner().run(examples)
    assert results.attempted > 15
    assert results.failed == 0


def test_a_page_of_a_lock_goes_through_its_steps_without_a_script() -> None:
    from pvops.emulate.smp.job import LockJob
    from pvops.emulate.smp.job import results as lock_results
    from pvops.emulate.smp.setting import Setting
    from pvops.render import locks_text, run_locks_page

    setting = Setting(slice=60, hold=20)
    job = LockJob(["pv-ticket-4.0"], ["kvm"], 4, setting, bits=[64], patched=[True], threshold=4, record=True)
    [result] = lock_results(job)
    page = run_locks_page.page([result], [])
    assert "<script" not in page
    assert page.count("<section") == page.count("</section>") > 20
    steps = [f'id="r0s{n}"' in page and f'href="#r0s{n}"' in page for n in range(page.count("<section"))]
    assert all(steps)
    assert {word for word in ("lock xadd", "KICK_CPU", "holds the lock") if word not in page} == set()
    start, end = locks_text.window(result)
    assert start < end
    assert result.preempted[1] > 0
    drawn = list(locks_text.gantt(result))
    assert len(drawn) == 2 + 2 * 4
    assert "P" in "".join(drawn[1:-1]), "a holder without a physical CPU"
