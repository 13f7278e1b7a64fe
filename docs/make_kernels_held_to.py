"""Write kernels-held-to.md from its data, and take what `pvops corpus` found into them:

    pvops corpus DIR --json > found.json
    python docs/make_kernels_held_to.py found.json

A row of an earlier day goes where the same kernel and boot is held again. Without a document the page is written from
the data as they are; a test checks that it is what this would write.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import Any

from marks import filled

PAGE = Path(__file__).with_name("kernels-held-to.md")
DATA = Path(__file__).with_name("kernels-held-to.json")

Kernel = dict[str, Any]

#: How a boot's name begins, and under what it ran.
_HYPERVISORS = {
    "native": "none",
    "kvm-real": "KVM",
    "kvm": "KVM, forced",
    "hyperv-real": "Hyper-V's interface",
    "vmware-real": "VMware's interface",
    "xenpvh-real": "Xen PVH",
    "xenhvm-real": "Xen HVM",
    "xenpv": "Xen PV",
}
#: Tables whose first guesses are rules, and not what nobody can know: random hashes, allocated addresses.
_RULES = ("jump_labels", "static_calls", "trampolines")


def taken(data: list[Kernel], found: dict[str, Any], today: str) -> list[Kernel]:
    """The data with what a document of `pvops corpus` has."""
    kernels = {_name(kernel): kernel for kernel in data}
    for kernel in found["kernels"]:
        row = {
            "release": kernel["release"] or kernel["file"],
            "bits": kernel["bits"],
            "built": _built(kernel),
            "rows": sum(kernel["sites"].values()),
            "refused": kernel["refused"],
            "held": today,
        }
        before = kernels.get(_name(row), {}).get("boots", {})
        boots = {boot["name"].partition("~")[2]: _boot(boot, today) for boot in kernel["boots"]}
        kernels[_name(row)] = row | {"boots": dict(sorted((before | boots).items()))}
    return sorted(kernels.values(), key=lambda kernel: [*_age(kernel["release"]), (0, kernel["rows"])])


def _name(kernel: Kernel) -> tuple[str, int | None, int]:
    return kernel["release"], kernel["bits"], kernel["rows"]


def _built(kernel: Kernel) -> str:
    options = set(kernel["options"])
    return ", ".join(
        word
        for word in (
            kernel["compiler"],
            "PARAVIRT_XXL" if "PARAVIRT_XXL" in options else "PARAVIRT" if "PARAVIRT" in options else "no PARAVIRT",
            "SMP" if "SMP" in options else "UP",
            "kCFI" if "CFI" in options else "",
            "no symbols" if "KALLSYMS" not in options else "" if "KALLSYMS_ALL" in options else "functions' symbols",
        )
        if word
    )


def _boot(boot: dict[str, Any], today: str) -> dict[str, Any]:
    ruled = [guesses for table, guesses in boot["guesses_by"].items() if table in _RULES]
    return {
        "compared": boot["compared"],
        "wrong": sum(boot["wrong"].values()),
        "guesses": sum(each["sites"] for each in ruled),
        "guesses_wrong": sum(each["wrong"] for each in ruled),
        "unexplained": boot["unexplained"],
        "unexplained_told": boot["unexplained_told"],
        "refused": boot["refused"],
        "held": today,
    }


def _age(release: str) -> list[tuple[int, Any]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", release) if part]


def table(data: list[Kernel]) -> list[str]:
    """One line for each boot, and for each kernel without one."""
    lines = [
        "| kernel | bits | built | ran under | machine | bytes compared | wrong | keys and calls guessed right "
        "| unexplained | held |",
        "|---|---|---|---|---|---:|---:|---:|---:|---|",
    ]
    for kernel in data:
        head = f"| {kernel['release']} | {kernel['bits'] or ''} | {kernel['built']} |"
        if kernel["refused"] is not None:
            lines.append(f"| {kernel['release']} | | | | | refused: {kernel['refused']} | | | | {kernel['held']} |")
        elif not kernel["boots"]:
            lines.append(f"{head} | | opened: {kernel['rows']:,} rows | | | | {kernel['held']} |")
        lines += [f"{head} {_cells(mode, boot)} |" for mode, boot in kernel["boots"].items()]
    return lines


def _cells(mode: str, boot: dict[str, Any]) -> str:
    prefix = next((name for name in _HYPERVISORS if mode.startswith(f"{name}-")), "native")
    right = boot["guesses"] - boot["guesses_wrong"]
    guessed = f"{right:,} of {boot['guesses']:,}" if boot["guesses"] else ""
    unexplained = "" if boot["unexplained"] is None else f"{boot['unexplained'] + (boot['unexplained_told'] or 0):,}"
    compared = f"{boot['compared']:,}" if boot["compared"] else "verified alone"
    wrong = (
        f"refused: {_once(boot['refused'])}" if boot["refused"] else f"{boot['wrong']:,}" if boot["compared"] else ""
    )
    machine = mode.removeprefix(f"{prefix}-")
    return f"{_HYPERVISORS[prefix]} | {machine} | {compared} | {wrong} | {guessed} | {unexplained} | {boot['held']}"


def _once(refused: str) -> str:
    """Why a boot was refused; where `patch` and `verify` say the same of it, once."""
    planned, _, judged = refused.partition("; verify: ")
    return f"{planned} (patch and verify)" if planned == judged else refused


def summary(data: list[Kernel]) -> str:
    """All of it in one sentence."""
    boots = [boot for kernel in data for boot in kernel["boots"].values()]
    releases = {".".join(str(part) for _, part in _age(kernel["release"])[:3:2]) for kernel in data}
    compared, wrong = sum(boot["compared"] for boot in boots), sum(boot["wrong"] for boot in boots)
    sites, missed = sum(boot["guesses"] for boot in boots), sum(boot["guesses_wrong"] for boot in boots)
    runs = [
        ((boot["unexplained"] or 0) + (boot["unexplained_told"] or 0), boot["refused"] is not None) for boot in boots
    ]
    unexplained, of_refused = sum(n for n, _ in runs), sum(n for n, refused in runs if refused)
    of_those = f", {of_refused:,} of them on boots that are refused" if of_refused else ""
    refused = sum(kernel["refused"] is not None for kernel in data) + sum(boot["refused"] is not None for boot in boots)
    return (
        f"{len(data)} kernels of {len(releases)} releases, {len(boots)} boots: {compared:,} bytes of text compared, "
        f"{wrong:,} of them wrong; {sites:,} sites of static keys and calls guessed, {sites - missed:,} of them right; "
        f"{unexplained:,} runs unexplained{of_those}; {refused} refused."
    )


def current(page: str, data: list[Kernel]) -> str:
    """The page with its rows as the data have them now."""
    return filled(page, {"boots": [summary(data), "", *table(data)]})


def load() -> list[Kernel]:
    """The data as they are."""
    found: list[Kernel] = json.loads(DATA.read_text())
    return found


def main(documents: list[str]) -> None:
    """Takes documents in, and writes data and page."""
    data = load() if DATA.exists() else []
    for document in documents:
        data = taken(data, json.loads(Path(document).read_text()), date.today().isoformat())
    DATA.write_text("[\n" + ",\n".join(json.dumps(kernel) for kernel in data) + "\n]\n")
    PAGE.write_text(current(PAGE.read_text(), data))


if __name__ == "__main__":
    main(sys.argv[1:])
