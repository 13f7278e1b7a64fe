"""A kernel's version, as its release says it, or its banner."""

from __future__ import annotations

#: A release by its numbers: (6, 1), and of 2.6 (2, 6, 33).
Version = tuple[int, ...]


def version_of(release: str | None) -> Version | None:
    """``(6, 12, 117)`` of ``6.12.117+deb12-amd64``, ``(2, 6, 33)`` of ``2.6.33.3``; None for anything else.

    2.6.40 is 3.0, and 2.6.60 is 4.0, as override_release() of kernel/sys.c says them to programs that know of 2.6 alone
    (be27425dcc51, 39afb5ee4640); Fedora 15 named its kernels so.
    """
    import re

    found = re.match(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3})(?:\.(\d{1,3}))?)?", release or "")
    if found is None:
        return None
    version = tuple(int(part) for part in found.groups() if part is not None)
    if version[:2] == (2, 6) and version[2:] >= (40,):
        major, minor = (3, version[2] - 40) if version[2] < 60 else (4, version[2] - 60)
        return (major, minor, *version[3:])
    return version[:3]


def of_sources(release: str | None, banner: str | None) -> Version | None:
    """The version of the sources that a kernel is built from, as far as its banner tells.

    Debian's releases count what modules see (``3.2.0-4-686-pae``), and its banners end with the package's version:
    ``#1 SMP Debian 3.2.60-1+deb7u3``.
    """
    _, _, build = (banner or "").rpartition("#")
    own, named = version_of(release), version_of(build.partition(" Debian ")[2])
    return named if own is not None and named is not None and named[:2] == own[:2] else own
