"""The outputs that pages show: written anew from the commands, or compared with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .environment import VENV, environment
from .kernels import kernel_of_apt
from .shell import CACHE, ROOT, Options, say, stop

#: Pages whose shown outputs the task ``readme`` writes.
PAGES = ("README.md", "docs")
BLOCK = re.compile(
    r"<!-- output: (?P<command>[^\n]+) -->\n(?:```console\n.*?```\n)?<!-- end -->\n", re.DOTALL | re.MULTILINE
)

CODE = re.compile(
    r"<!-- python -->\n```python\n(?P<code>.*?)```\n<!-- prints -->\n(?:```text\n.*?```\n)?<!-- end -->\n", re.DOTALL
)


def readme(options: Options) -> None:
    """Writes the outputs shown in the README and in docs anew (``--check``: only says whether they are still so)."""
    environment()
    desks = CACHE / "readme"
    shutil.rmtree(desks, ignore_errors=True)
    desks.mkdir(parents=True)
    kernels = known_kernels()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        made = threads.map(lambda page: written_anew(page, desk_in(desks, kernels)), pages())
        found = zip(pages(), made, strict=True)
        stale = [str(page.relative_to(ROOT)) for page, new in found if is_stale(page, new, options)]
    if stale and options.check:
        stop(f"outputs in {', '.join(stale)} are not what the commands print: `python3 tasks.py readme`")
    say(f"outputs written: {', '.join(stale)}" if stale else "outputs are what the commands print")


def desk_in(desks: Path, kernels: list[Path]) -> Path:
    """A folder for the commands of one page, which has the kernels at hand."""
    desk = Path(tempfile.mkdtemp(dir=desks))
    for path in kernels:
        (desk / path.name).symlink_to(path.resolve())
    return desk


def written_anew(page: Path, desk: Path) -> str | LookupError:
    """A page with the outputs of its commands as they are now, or which kernel they need that is not at hand."""
    try:
        text = BLOCK.sub(lambda block: shown_output(block["command"], desk), page.read_text())
        return CODE.sub(lambda block: shown_prints(block["code"], desk), text)
    except LookupError as missing:
        return missing


def is_stale(page: Path, new: str | LookupError, options: Options) -> bool:
    """Whether a page shows other outputs than it should; where they are not only compared, it is written."""
    if isinstance(new, LookupError):
        if not options.check or os.environ.get("PVOPS_REQUIRE_KERNELS") == "1":
            stop(f"{page.relative_to(ROOT)}: {new}")
        say(f"{page.relative_to(ROOT)}: not compared: {new}")
        return False
    if new == page.read_text():
        return False
    if not options.check:
        page.write_text(new)
    return True


def pages() -> Iterator[Path]:
    """The pages that show outputs."""
    for name in PAGES:
        path = ROOT / name
        yield from sorted(path.glob("*.md")) if path.is_dir() else [path]


def known_kernels() -> list[Path]:
    """Every kernel at hand, and every file beside one that a page may name."""
    found: list[Path] = []
    root = os.environ.get("PVOPS_KERNELS")
    if root:
        found += sorted(Path(root, "kernels").iterdir()) if Path(root, "kernels").is_dir() else []
        found += sorted(Path(root, "boots").glob("*.facts"))
    else:
        offered = kernel_of_apt()
        found += [offered] if offered else []
    return found


def shown_output(command: str, desk: Path) -> str:
    """The block of a page for a command: its command line and what it prints, both streams as on a terminal."""
    text = printed(command, ["bash", "-c", command], desk)
    return f"<!-- output: {command} -->\n```console\n$ {command}\n{text}\n```\n<!-- end -->\n"


def shown_prints(code: str, desk: Path) -> str:
    """The block of a page for a Python program: the program, and what it prints."""
    text = printed(code, [str(VENV / "bin" / "python"), "-c", code], desk)
    return f"<!-- python -->\n```python\n{code}```\n<!-- prints -->\n```text\n{text}\n```\n<!-- end -->\n"


def printed(shown: str, words: list[str], desk: Path) -> str:
    """What a command prints, which a page shows as `shown`."""
    for word in re.findall(r"\b(?:vmlinuz|config)-[^\s\"']+|[^\s\"']+\.facts\b", shown):
        if not (desk / word).exists():
            raise LookupError(f"`{shown}` needs {word}, which is not at hand (PVOPS_KERNELS)")
    env = {
        **os.environ,
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    done = subprocess.run(words, cwd=desk, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode > 1 or "Traceback (most recent call last)" in done.stdout:
        stop(f"`{shown}` failed with status {done.returncode}: {done.stdout.strip()}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())
