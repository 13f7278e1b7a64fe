"""Columns as Arrow has them: what a reader of streams that is no part of this project makes of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pvops
from pvops.image.sites import Row, Site
from pvops.kernel import Kernel

nanoarrow = pytest.importorskip("nanoarrow")


def rows_of(source: Any) -> list[dict[str, Any]]:
    """All rows that a stream has, by the names of the columns."""
    array = nanoarrow.Array(source)
    names = [field.name for field in array.schema.fields]
    return [dict(zip(names, row.values() if isinstance(row, dict) else row, strict=True)) for row in array.iter_py()]


def expected(site: Site, row: Row) -> dict[str, Any]:
    found = {
        name: getattr(row, name)
        for name in ("table", "index", "len", "type", "op", "clobbers", "feature", "key", "target", "constant")
    }
    flags = {"inverted": row.inverted, "direct_call": row.direct_call or (None if row.feature is None else False)}
    return {"address": site.address, **found, **{k: None if v is None else int(v) for k, v in flags.items()}}


def test_sites_are_a_row_a_row_of_a_table(sample_kernel: Path) -> None:
    sites = pvops.open(sample_kernel).sites
    wanted = [expected(site, row) for site in sites for row in site.rows]
    assert len(wanted) >= len(sites) > 3
    assert rows_of(sites) == wanted


def test_sites_of_one_op_are_those_rows(sample_kernel: Path) -> None:
    kernel = pvops.open(sample_kernel)
    op = next(site.op for site in kernel.sites if site.op is not None)
    chosen = kernel.sites.for_op(op)
    wanted = [expected(site, row) for site in chosen for row in site.rows]
    assert 0 < len(wanted) < len(rows_of(kernel.sites))
    assert rows_of(chosen) == wanted


def test_a_plan_is_its_writes(sample_kernel: Path) -> None:
    plan = pvops.open(sample_kernel).plan("native")
    found = [
        (row["address"], row["table"], row["row"], row["bytes"], row["kind"], row["used"]) for row in rows_of(plan)
    ]
    assert found == [(w.address, w.table, w.row, w.bytes, w.kind, w.used) for w in plan]


def test_votes_and_spans_of_a_report(kernel: Callable[[str], Kernel]) -> None:
    opened = kernel("6.1.0-56-amd64")
    report = opened.verify(opened.plan("native").apply())
    spans: Any = report.spans
    assert [tuple(row.values()) for row in rows_of(spans)] == list(report.spans)
    votes = [(row["about"], row["votes"], row["against"], bool(row["given"])) for row in rows_of(report.votes)]
    assert votes == [(vote.about, vote.votes, vote.against, vote.given) for vote in report.votes]
    assert list(pickle.loads(pickle.dumps(report)).spans) == list(report.spans)


def test_a_stream_that_nobody_takes_is_freed_and_one_that_is_taken_outlives_the_kernel(sample_kernel: Path) -> None:
    sites = pvops.open(sample_kernel).sites
    for _ in range(100):
        sites.__arrow_c_stream__()
    array = nanoarrow.Array(sites)
    addresses = [site.address for site in sites for _ in site.rows]
    del sites
    assert array.child(0).to_pylist() == addresses
