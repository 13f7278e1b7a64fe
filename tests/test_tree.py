"""The tree of sources: no file is too long to be read at one go, and documents name only files that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("benches", "docs", "fuzz", "models", "python", "src", "tasks", "tests")
#: The longest file.
LINES = 400
#: The stub of the core: one list of what the module has.
LISTS = {Path("python/pvops/_core.pyi")}
#: A path as documents write it.
NAMED = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`")


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        for suffix in ("py", "pyi", "rs"):
            yield from (path for path in (ROOT / folder).rglob(f"*.{suffix}") if "target" not in path.parts)


def test_no_file_is_longer_than_can_be_read_at_one_go() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in sources()}
    assert len(lengths) > 500
    long = {str(path): lines for path, lines in lengths.items() if lines > LINES and path not in LISTS}
    assert not long


def test_documents_name_files_that_there_are() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    named = {
        (path, name) for path in documents if path.name != "CHANGELOG.md" for name in NAMED.findall(path.read_text())
    }
    assert len(named) > 50
    missing = sorted(f"{path.name}: {name}" for path, name in named if not (ROOT / name).exists())
    assert not missing


def anchors(document: str) -> set[str]:
    """What links to a document may name behind `#`, as forges and the site make it of its headings."""
    heads = re.findall(r"^#+ (.*)$", without_blocks(document), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head) for head in heads]
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in plain}


def without_blocks(document: str) -> str:
    return re.sub(r"^```.*?^```", "", document, flags=re.MULTILINE | re.DOTALL)


def test_no_link_of_a_document_is_dead() -> None:
    """As they stand in the tree. Pages that the site makes (`reference/`) are looked at where it is built."""
    documents = {path: path.read_text() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
    links = [
        (path, *link.partition("#")[::2])
        for path, text in documents.items()
        for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text))
        if not link.startswith(("https://", "reference/"))
    ]
    assert len(links) > 80
    dead = []
    for path, to, anchor in links:
        target = (path.parent / to).resolve() if to else path
        if not target.exists() or (anchor and anchor not in anchors(documents[target])):
            dead.append(f"{path.name}: {to}#{anchor}")
    assert not dead
