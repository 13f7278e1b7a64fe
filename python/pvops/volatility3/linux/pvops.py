"""Volatility 3's plugins ``linux.pvops.Verify`` and ``linux.pvops.Inferred``: ``vol -p $(pvops volatility3) -f DUMP``.

They need no symbol table (ISF): the kernel is found by its image, in the layer of physical memory that Volatility made,
and virtual memory is read through the kernel's own page tables. Where Volatility takes a file for raw memory that is in
a format it does not know (a kdump of makedumpfile's), the file itself is opened.
"""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from volatility3.framework import exceptions, interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import physical
from volatility3.framework.renderers import format_hints

import pvops
from pvops.errors import DumpError, Error, InputError
from pvops.render import verify_text
from pvops.render.terminal import spaced
from pvops.verify.data import Disagreement
from pvops.verify.report import Module, Report, Unexplained

log = logging.getLogger(__name__)

#: So many bytes of a run are shown; how many there are the table says.
_SHOWN = 32

#: Depth in the tree, and the values of the columns.
Row = tuple[int, tuple[Any, ...]]
_NONE = renderers.NotApplicableValue()


class _Judging(interfaces.plugins.PluginInterface):
    """What both plugins have in common: the options, and the report."""

    _required_framework_version = (2, 0, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> list[Any]:
        """The options, and any layer: virtual memory where Volatility has symbols, physical memory where not."""
        return [
            requirements.TranslationLayerRequirement(name="primary", description="Memory of the machine"),
            requirements.StringRequirement(
                name="kernel", description="The kernel that ran: the vmlinuz or ELF vmlinux that was booted"
            ),
            requirements.StringRequirement(
                name="machine", description="The machine, where it is known: not inferred then", optional=True
            ),
            requirements.ListRequirement(
                name="allow",
                element_type=str,
                description="Who else may have written text: ftrace, livepatch, kprobes, bpf, modules",
                optional=True,
            ),
            requirements.ListRequirement(
                name="module",
                element_type=str,
                description="Files of loaded modules to judge too, with those they depend on",
                optional=True,
            ),
        ]

    def report(self) -> Report:
        """Judges the memory.

        Raises:
            LayerException: the kernel is not in it, or it cannot be read.
            VolatilityException: an option is wrong; the log says how.
        """
        name = self.config["primary"]
        try:
            kernel = pvops.open(self.config["kernel"])
            return kernel.verify(
                self.memory(name),
                machine=self.config.get("machine"),
                allow=self.config.get("allow") or (),
                modules=self.config.get("module") or (),
                progress=self.progress,
            )
        except (DumpError, InputError) as error:
            raise exceptions.LayerException(name, str(error)) from error
        except Error as error:
            log.error("%s", error)
            raise exceptions.VolatilityException(str(error)) from error

    def memory(self, name: str) -> pvops.memory.Memory:
        """A layer's memory: of a virtual layer, the physical memory below it."""
        layer = self.context.layers[name]
        while "memory_layer" in layer.config:
            layer = self.context.layers[layer.config["memory_layer"]]
        if isinstance(layer, physical.FileLayer) and (path := _file_of(layer)) is not None:
            return pvops.memory.open(path)
        return pvops.memory.open(layer.read, physical=_extents(layer))

    def progress(self, done: int, total: int) -> None:
        """Passes on how far the search for the kernel is."""
        self._progress_callback(100 * done / max(total, 1), "Looking for the kernel")


class Verify(_Judging):
    """Explains every byte of a Linux kernel's text by the kernel's own tables, or says that nothing does.

    The first row is the verdict: clean, modified or incomplete. Below it stand the bytes that nothing explains or that
    somebody was allowed to write, data that say something else than the text, what could not be read, and what was not
    judged. `Linked` is an address as in the kernel's file, `Address` the one it has in this memory.
    """

    def run(self) -> Any:
        """Judges the memory, and gives the table."""
        hex_ = format_hints.Hex
        return renderers.TreeGrid(
            [
                ("Finding", str),
                ("Address", hex_),
                ("Linked", hex_),
                ("Where", str),
                ("Bytes", int),
                ("Expected", str),
                ("Found", str),
                ("Note", str),
            ],
            rows(self.report()),
        )


class Inferred(_Judging):
    """Says what a Linux kernel's text depends on: features, static keys, targets, and how many sites say so of each.

    What fewer than three sites say cannot be told from a change of all of them.
    """

    def run(self) -> Any:
        """Judges the memory, and gives the table."""
        votes = self.report().votes
        return renderers.TreeGrid(
            [("About", str), ("Name", str), ("Value", str), ("Votes", int), ("Against", int), ("Given", bool)],
            ((0, (vote.about, vote.name, vote.value, vote.votes, vote.against, vote.given)) for vote in votes),
        )


def rows(report: Report) -> Iterator[Row]:
    """A report as a tree: the verdict, and below it all that was found; a module's below the module."""
    said = ", ".join(verify_text.inferred(report))
    yield _row(0, report.verdict, report.address, report.slide, report.kernel, report.size, note=said)
    yield from _runs(report, 1, report.slide)
    if (constants := report.data.rodata) is not None:
        verdict = "modified" if constants.wrong else "incomplete" if constants.unread else "clean"
        yield _row(1, verdict, constants.address, report.slide, ".rodata", constants.size)
    for datum in report.data.disagreements:
        yield _datum(datum, report.slide)
    for reason in report.data.unheard:
        yield _row(1, "not judged", note=reason)
    for part in report.not_judged:
        yield _row(1, "not judged", part.address, report.slide, part.section, part.size, note=part.why)
    for module in report.modules:
        yield _row(1, _verdict(module), module.address, None, module.name, module.size, note=module.why or "")
        yield from _runs(module, 2, None)
    if report.not_listed is not None:
        yield _row(1, "not judged", note=f"modules, which could not be listed: {report.not_listed}")


def _verdict(module: Module) -> str:
    if not module.judged:
        return "not judged"
    return "modified" if module.unexplained else "incomplete" if module.unread else "clean"


def _runs(part: Report | Module, depth: int, slide: int | None) -> Iterator[Row]:
    for finding, found in (("unexplained", part.unexplained), ("allowed", part.allowed)):
        for run in found:
            bytes_ = (_shown(run.expected), _shown(run.found))
            yield _row(depth, finding, run.address, slide, run.symbol or "", run.wrong, *bytes_, note=_note(run))
    for start, end in part.unread:
        yield _row(depth, "unread", start, slide, "", end - start)


def _datum(datum: Disagreement, slide: int) -> Row:
    where = f"{datum.what} {datum.name}"
    return _row(1, "data", datum.address, slide, where, None, datum.expected, datum.found)


def _note(run: Unexplained) -> str:
    """A run as an analyst wants it: the instruction, the table, who may have written it."""
    notes = [f"is {run.stands}, should be {run.should}" if run.stands else "", *verify_text.notes(run)]
    return "; ".join(note for note in notes if note)


def _shown(code: bytes) -> str:
    return spaced(code[:_SHOWN]) + (" …" if len(code) > _SHOWN else "")


def _row(
    depth: int,
    finding: str,
    address: int | None = None,
    slide: int | None = None,
    where: str = "",
    size: int | None = None,
    expected: str = "",
    found: str = "",
    note: str = "",
) -> Row:
    """A row; without a slide the address is where it runs, and was linked nowhere."""
    at = _NONE if address is None else format_hints.Hex(address + (slide or 0))
    linked = _NONE if address is None or slide is None else format_hints.Hex(address)
    return depth, (finding, at, linked, where, _NONE if size is None else size, expected, found, note)


def _extents(layer: Any) -> list[tuple[int, int]]:
    """(address, size) of the memory that a layer has."""
    first, size = layer.minimum_address, layer.maximum_address + 1 - layer.minimum_address
    if not isinstance(layer, interfaces.layers.TranslationLayerInterface):
        return [(first, size)]
    return [(start, length) for start, length, *_ in layer.mapping(first, size, ignore_errors=True)]


def _file_of(layer: Any) -> str | None:
    """The path of the file that a layer is; None where Volatility unpacks it, or gets it from elsewhere."""
    location = urlsplit(layer.location)
    path = url2pathname(location.path)
    whole = location.scheme == "file" and os.path.isfile(path) and os.path.getsize(path) == layer.maximum_address + 1
    return path if whole else None
