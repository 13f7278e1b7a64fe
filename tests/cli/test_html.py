"""`--html`: pages of one look. Whatever the command, a page is whole, loads nothing, leads nowhere that is not, and
says at its foot how it came about; the same command gives the same page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

import pvops
from pvops import _core, sample
from pvops.cli import main

KERNEL = "{kernel}"
COMMANDS: dict[str, Sequence[str]] = {
    "explain": ("explain", KERNEL, "sample_lock", "--backend", "native", "--backend", "kvm"),
    "diff": ("diff", KERNEL, "native", "kvm"),
    "verify": ("verify", KERNEL, "{memory}"),
    "lock check": ("lock", "check", "--protocol", "pv-ticket", "--threads", "2", "--acquisitions", "1"),
    "lock simulate": ("lock", "simulate", "--protocol", "pv-ticket", "--vcpus", "8", "16", "--duration", "0.02"),
}
MEASURING = {
    "run": ("run", "boot", "--era", "seed", "--patched"),
    "bench": ("bench", "--seconds", "1"),
}
#: Elements that have no end.
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """The tags of a page, held to be closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids |= {named["id"] or ""} if "id" in named else set()
        self.links |= {named["href"] or ""} if "href" in named else set()
        assert not {"src", "onload", "onclick"} & set(named)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes {self.open}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample image with all its tables, and functions of Xen's and KVM's."""
    path = tmp_path_factory.mktemp("image") / "vmlinux-sample"
    functions = sample.backend_functions("6.1", ("kvm", "xen"))
    path.write_bytes(sample.build("6.1", 64, functions=functions, tables=True).elf)
    return path


@pytest.fixture
def memory(image: Path, tmp_path: Path) -> Path:
    """The sample's text as it runs, with one byte changed."""
    kernel = pvops.open(image)
    start = next(address for name, address, _, _ in kernel.image.sections() if name == ".text")
    address = kernel.address_of("sample_work_3")
    assert address is not None
    text = bytearray(kernel.plan("native", machine="intel-haswell").apply())
    text[address + 4 - start] ^= 0xFF
    path = tmp_path / "memory"
    path.write_bytes(text)
    return path


def written(words: Sequence[str], out: Path) -> str:
    assert main([*words, "--html", str(out)]) in (0, 1)
    return out.read_text()


@pytest.mark.parametrize("command", [*COMMANDS, *MEASURING])
def test_a_page_is_whole_and_says_how_it_came_about(
    command: str, image: Path, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    asked = COMMANDS.get(command) or MEASURING[command]
    words = [word.format(kernel=image, memory=memory) for word in asked]
    out = tmp_path / "page.html"
    text = written(words, out)
    page = Page(text)
    assert not page.open
    assert {link[1:] for link in page.links if link[0] == "#"} <= page.ids
    assert all(link[0] == "#" for link in page.links), "a page leads to itself only"
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert text.count("<main>") == 1
    assert text.count('class="wide"') == text.count('tabindex="0" role="group"'), (
        "what scrolls is reached by the keyboard"
    )
    foot = re.search("<footer>(.*)</footer>", text)
    assert foot is not None
    assert foot[1].startswith(f"<code>pvops {command} ")
    assert f"pvops {_core.__version__}" in foot[1]
    assert "2001-09-09" in foot[1]
    if command in COMMANDS:
        assert written(words, out) == text


def test_a_ring_leads_to_what_is_unexplained_and_its_entry_back_to_the_map(
    image: Path, memory: Path, tmp_path: Path
) -> None:
    text = written(["verify", str(image), str(memory)], tmp_path / "page.html")
    (ring,) = re.findall(r'<a href="#(a[0-9a-f]+)"><title>0x[0-9a-f]+</title><circle', text)
    assert f'<h3 id="{ring}">' in text
    assert '<a class="soft" href="#map">' in text
    assert 'id="map"' in text


def test_backends_that_come_to_the_same_are_told_once(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "explain",
        str(image),
        "sample_idle",
        "--backend",
        "native",
        "--backend",
        "kvm",
        "--backend",
        "xen",
    ]
    text = written(words, tmp_path / "page.html")
    assert "<h3>native, kvm</h3>" in text
    assert "<h3>xen</h3>" in text
    capsys.readouterr()
    assert main(words) == 0
    assert "\n  native, kvm\n" in capsys.readouterr().out
    assert main(["disasm", *words[1:]]) == 0
    assert re.search(r"^ +native, kvm +xen$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("command", [*COMMANDS, *MEASURING])
def test_a_page_and_a_document_do_not_share_standard_output(
    command: str, capsys: pytest.CaptureFixture[str], image: Path, memory: Path
) -> None:
    asked = COMMANDS.get(command) or MEASURING[command]
    words = [word.format(kernel=image, memory=memory) for word in asked]
    assert main([*words, "--html", "-", "--json"]) == 2
    assert "both want standard output" in capsys.readouterr().err


def test_reasons_are_as_wide_as_the_terminal(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in (60, 80, 400):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["explain", str(image), "sample_lock", "--backend", "kvm"]) == 0
        reasons = [line for line in capsys.readouterr().out.splitlines() if line.startswith(" " * 16)]
        assert reasons
        assert max(map(len, reasons)) <= min(columns, 110)
