"""How an object is shown as text, as a page or as a picture.

What shows an object lies above it (`pvops.render`), and no object imports what shows it: the package registers one
renderer here when it is imported, and objects ask `show`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Renderer(Protocol):
        """Shows an object one way, as `show` describes it."""

        def __call__(self, shown: object, way: str, /, **options: object) -> str: ...


_renderers: list[Renderer] = []


def register(renderer: Renderer) -> None:
    """Has this renderer asked from now on."""
    _renderers[:] = [renderer]


def show(shown: object, way: str, /, **options: object) -> str:
    """The object as text of one kind.

    Args:
        shown: what to show.
        way: ``text``, ``fragment`` (HTML for a notebook), ``page`` (a whole page), or ``plot``, which writes the file
            ``path`` and gives its name.
        options: what that way takes.

    Raises:
        LookupError: no renderer is registered, or it does not know the object or the way.
    """
    if not _renderers:
        raise LookupError("no renderer is registered")
    return _renderers[0](shown, way, **options)
