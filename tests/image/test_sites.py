"""Sites are columns in the core: what is counted, looked up and written from them is what the rows say."""

from __future__ import annotations

import csv
import json
from collections import Counter
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest

import pvops
from pvops.errors import OpsError, TableError
from pvops.image.sites import Site, Sites
from pvops.image.tables import TABLES
from pvops.kernel import Kernel

ABSENT = {1: 0xFF, 4: 0xFFFF_FFFF, 8: 0xFFFF_FFFF_FFFF_FFFF}


@pytest.fixture(scope="module")
def sites(any_kernel: Path) -> Sites:
    return pvops.open(any_kernel).sites


def _document(site: Site) -> dict[str, object]:
    return {
        "address": f"{site.address:#x}",
        "section": site.section,
        "symbol": site.symbol,
        "bytes": site.bytes.hex(),
        "rows": [row.to_dict() for row in site.rows],
    }


def _flat(site: Site) -> list[dict[str, object]]:
    whole = _document(site)
    rows = [row.to_dict() for row in site.rows]
    return [
        {**{k: v for k, v in whole.items() if k not in ("rows", "bytes")}, **row, "bytes": whole["bytes"]}
        for row in rows
    ]


def test_json_has_what_the_objects_say(sites: Sites) -> None:
    text = b"[" + b"".join(sites.columns.written("json")) + b"]"
    assert json.loads(text) == [_document(site) for site in sites]


def test_json_is_laid_out_as_the_standard_library_does(sites: Sites) -> None:
    written = b"".join(sites.columns.written("json", [0, 1, 2]))
    expected = json.dumps({"sites": [_document(site) for site in sites[:3]]}, indent=1)
    assert '{\n "sites": [' + written.decode() + "\n ]\n}" == expected


def test_json_lines_and_csv_have_a_row_a_line(sites: Sites) -> None:
    rows = [row for site in sites for row in _flat(site)]
    lines = b"".join(sites.columns.written("jsonl")).splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert lines[0].decode() == json.dumps(rows[0])
    out = StringIO()
    writer = csv.DictWriter(out, sites.columns.csv_columns(), extrasaction="ignore", lineterminator="\n")
    writer.writerows(rows)
    assert b"".join(sites.columns.written("csv")) == out.getvalue().encode()


def test_names_are_left_out_where_they_are_not_wanted(sites: Sites) -> None:
    for line in b"".join(sites.columns.written("jsonl", names=False)).splitlines():
        assert json.loads(line)["symbol"] is None


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "text"])
def test_any_number_of_threads_writes_the_same(sites: Sites, form: str) -> None:
    many = list(range(len(sites))) * (20_000 // len(sites) + 1)
    assert b"".join(sites.columns.written(form, many, jobs=3)) == b"".join(sites.columns.written(form, many, jobs=1))


def test_a_form_a_column_or_a_site_that_there_is_not(sites: Sites) -> None:
    with pytest.raises(pvops.Error, match="written as json"):
        sites.columns.written("xml")
    with pytest.raises(pvops.Error, match="no column"):
        sites.columns.column("colour")
    with pytest.raises(pvops.Error, match="no site"):
        sites.columns.site(len(sites))
    with pytest.raises(pvops.Error, match="no site"):
        sites.columns.written("json", [len(sites)])
    with pytest.raises(IndexError):
        sites[len(sites)]


def test_counts_are_those_of_the_objects(sites: Sites) -> None:
    counts = sites.counts()
    assert counts.rows == Counter(row.table for site in sites for row in site.rows)
    assert counts.sections == Counter(site.section for site in sites)
    assert counts.ops == Counter(site.op for site in sites if site.op is not None)
    several = [tables for site in sites if len(tables := list(dict.fromkeys(row.table for row in site.rows))) > 1]
    assert counts.shared == Counter(" + ".join(tables) for tables in several)
    assert sites.count("op") == counts.ops
    assert list(counts.ops.values()) == sorted(counts.ops.values(), reverse=True)


def test_sites_are_counted_as_they_are_listed(any_kernel: Path) -> None:
    every = pvops.open(any_kernel).sites
    for sites in (every, *map(every.of_table, TABLES)):
        counted = len(sites)
        assert "columns" not in vars(sites), "counted without them"
        assert counted == len(list(sites)) == len({site.address for site in sites})


def test_the_sites_of_an_op(sites: Sites) -> None:
    op, count = sites.count("op").most_common(1)[0]
    found = sites.for_op(str(op))
    assert len(found) == count == len(list(found))
    assert {site.op for site in found} == {op}
    assert [site.address for site in found] == [site.address for site in sites if site.op == op]
    with pytest.raises(OpsError, match=r"no op pv_cpu_ops\.no_such_op"):
        sites.for_op("pv_cpu_ops.no_such_op")


def test_sites_are_found_by_address(sites: Sites) -> None:
    everywhere = sorted(sites, key=lambda site: site.address)
    for site in everywhere[:: max(1, len(everywhere) // 50)]:
        last = site.address + len(site.bytes) - 1
        assert site.address in {found.address for found in sites.within(last, last + 1)}
        assert sites.columns.at(site.address) is not None
        here = sites.nearest(site.address)
        assert here is not None
        assert here.address == site.address
    low, high = everywhere[3].address, everywhere[10].address
    touching = [site for site in everywhere if site.address < high and site.address + len(site.bytes) > low]
    assert sites.within(low, high) == touching
    assert sites.within(high, low) == sites.within(0, 1) == []
    first = sites.nearest(0)
    assert first is not None
    assert first.address == everywhere[0].address


def test_sites_near_an_address_are_those_of_the_whole_list(sites: Sites) -> None:
    everywhere = sorted(sites, key=lambda site: site.address)
    step = max(1, len(everywhere) // 20)
    for low, high in pairwise(site.address + 1 for site in everywhere[::step]):
        for end in (low + 1, min(high, low + 4096)):
            fresh = Sites(sites.view, sites._ops, sites._order)
            found = fresh.near(low, end)
            assert [_document(site) for site in found] == [_document(site) for site in sites.within(low, end)]
            assert "columns" not in fresh.__dict__
    assert sites.near(5, 5) == []


def test_columns_are_read_through_the_buffer_protocol(sites: Sites) -> None:
    columns = sites.columns
    rows = [(site, row) for site in sites for row in site.rows]
    assert columns.rows == len(rows)
    for name in ("address", "len", "index", "type", "clobbers", "feature", "key", "target", "inverted"):
        view = columns.column(name)
        assert view.readonly
        assert len(view) == len(rows)
        absent = ABSENT[view.itemsize]
        values = [site.address if name == "address" else getattr(row, name) for site, row in rows]
        assert view.tolist() == [absent if value is None else value for value in values]
    first = columns.column("first").tolist()
    assert first[0] == 0
    assert first[-1] == len(rows)
    assert [b - a for a, b in pairwise(first)] == [len(site.rows) for site in sites]


def test_a_column_outlives_its_kernel(any_kernel: Path) -> None:
    def column(kernel: Kernel) -> memoryview:
        return kernel.sites.columns.column("address")

    view = column(pvops.open(any_kernel))
    assert view[0] == pvops.open(any_kernel).sites[0].address


def test_a_column_cannot_be_written(sites: Sites) -> None:
    view = sites.columns.column("address")
    with pytest.raises(TypeError):
        view[0] = 0


def test_the_sites_of_a_place_are_addresses(any_kernel: Path) -> None:
    kernel = pvops.open(any_kernel)
    site = next(site for site in kernel.sites if site.symbol)
    assert kernel.sites_of(str(site.symbol)) == kernel.sites_of(f"{site.address:#x}") == [site.address]
    assert kernel.sites_of(f"{site.address + 0x2000:#x}", slide=0x2000) == [site.address]
    held = range(site.address - 64, site.address)
    bare = next(address for address in held if kernel.sites.at(address) is None)
    with pytest.raises(TableError, match=r"no site at .* the nearest is 0x"):
        kernel.sites_of(f"{bare:#x}")
