"""The site, and what else is made of the grammar: manual pages, and completions of the shells."""

from __future__ import annotations

import hashlib

from .environment import VENV, environment, fresh, python_in, wheel
from .shell import ROOT, Options, run, say, stop

BUILD = ROOT / "build"


def need_docs() -> None:
    """The extra ``docs`` in the environment."""
    environment()
    stamp = VENV / ".docs"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not fresh(stamp, wanted):
        say("installing what makes the site")
        words = (python_in(VENV), "-m", "pip", "install", "--quiet", f"{wheel().relative_to(ROOT)}[docs]")
        run(*words, env={"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
        stamp.write_text(wanted)


def site(options: Options) -> None:
    """Builds the site into ``build/site``: pages that need no server; a broken link is a failure."""
    need_docs()
    words = (python_in(VENV), "-m", "mkdocs", "build", "--strict", "--quiet")
    run(*words, env={"NO_MKDOCS_2_WARNING": "1"})  # its theme advertises at every build
    # Docstrings quote nobody: a quotation is an example that was not made code (tasks/examples.py).
    for page in sorted(BUILD.glob("site/reference/python*.html")):
        if "<blockquote>" in page.read_text():
            stop(f"{page.relative_to(ROOT)}: an example of a docstring is no block of code")
    say("the site is build/site/index.html")


def manuals(options: Options) -> None:
    """Writes manual pages and completions into ``build/share``, to be copied into ``/usr/local/share``."""
    need_docs()
    run(python_in(VENV), "-m", "tasks.references", BUILD / "share")
    say("build/share has man, bash-completion, zsh and fish")
