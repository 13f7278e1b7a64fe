"""Tables in a page: each stands between ``<!-- table: NAME -->`` and ``<!-- end -->``, and is made anew by a script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def filled(page: str, tables: Mapping[str, Iterable[str]]) -> str:
    """The page with these tables, each between its pair of marks.

    Raises:
        ValueError: the page has no such pair for a table.
    """
    for name, table in tables.items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        before, mark, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not mark or not closed:
            raise ValueError(f"the page has no pair of marks for the table {name}")
        page = before + begin + "\n".join(table) + "\n" + end + after
    return page
