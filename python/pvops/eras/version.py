"""A kernel's version, as its release says it."""

from __future__ import annotations

#: A release by its numbers: (6, 1), and of 2.6 (2, 6, 33).
Version = tuple[int, ...]


def version_of(release: str | None) -> Version | None:
    """``(6, 12, 117)`` of ``6.12.117+deb12-amd64``, ``(2, 6, 33)`` of ``2.6.33.3``; None for anything else."""
    import re

    found = re.match(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?", release or "")
    if found is None:
        return None
    return tuple(int(part) for part in found.groups() if part is not None)
