"""Pages of the site that are not files of docs: what lies beside docs, and the references (a hook of mkdocs)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # mkdocs loads this file by its path
#: Pages that lie in the root, where a forge looks for them.
BESIDE = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")

PYTHON = {
    "python": (
        "Kernel, Plan, Report",
        "What `import pvops` gives. Each name is imported when it is asked for.",
        ("pvops.open", "pvops.Kernel", "pvops.Sites", "pvops.Plan", "pvops.plan.explain", "pvops.Report"),
    ),
    "python-machine": (
        "Machines and backends",
        "What a kernel boots on, and who fills its ops.",
        ("pvops.Machine", "pvops.machine.presets", "pvops.Backend", "pvops.backends"),
    ),
    "python-memory": ("Memory", "Dumps, live kernels, and any reader.", ("pvops.memory",)),
    "python-ops": ("Eras and ops", "The structures of each kernel generation: `pvops.ops`.", ("pvops.eras",)),
    "python-lock": (
        "Locks and costs",
        "Locks to use, their models, and what call sites cost.",
        ("pvops.TicketLock", "pvops.HybridLock", "pvops.lock.check", "pvops.lock.simulate", "pvops.bench"),
    ),
    "python-errors": ("Errors", "One hierarchy, raised by the core and by Python alike.", ("pvops.errors",)),
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The commands in the navigation, as the grammar has them."""
    from tasks import references

    listed = [{name.removeprefix("pvops "): f"reference/{name.replace(' ', '-')}.md"} for name in references.commands()]
    for section in config.nav or []:
        for entry in section.get("Reference", []) if isinstance(section, dict) else []:
            if "Command line" in entry:
                entry["Command line"] = listed
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    from mkdocs.structure.files import File

    for path, content in _made():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them: sources are no pages, and what lay beside docs now lies in it."""
    markdown = re.sub(r"<!-- (output: [^\n]*|python|prints|end) -->\n", "", markdown)
    if page.file.src_path in BESIDE:
        markdown = markdown.replace("](docs/", "](")
    markdown = re.sub(r"\[([^]]+)\]\(\.\./(?:src|benches|tests|python|models)/[^)]*\)", r"\1", markdown)
    return markdown.replace("](../", "](")


def _made() -> list[tuple[str, str]]:
    from tasks import references

    made = [(name, (ROOT / name).read_text()) for name in BESIDE]
    made += [(f"reference/{name}", text) for name, text in references.pages().items()]
    for name, (title, what, objects) in PYTHON.items():
        made.append((f"reference/{name}.md", "\n\n".join([f"# {title}", what, *(f"::: {one}" for one in objects)])))
    return [*made, ("reference/schemas.md", _schemas())]


def _schemas() -> str:
    lines = [
        "# Documents",
        "Every command that prints data prints one JSON document with `--json`, and each document carries the name of "
        "its schema: `pvops.sites/1`. A number grows when a field changes its meaning or goes; new fields do not "
        "change it. `pvops --schema NAME` prints what is below.",
    ]
    for path in sorted((ROOT / "python/pvops/schemas").glob("*.json")):
        schema = json.loads(path.read_text())
        name = path.stem.rpartition("-")[0]
        lines += [f"## {name}", schema.get("description", schema.get("title", ""))]
        lines += [f'??? note "The schema of `{name}`"', _indented(f"```json\n{json.dumps(schema, indent=1)}\n```")]
    return "\n\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
