"""A kernel to work on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .apt import downloaded
from .environment import VENV, environment, pvops, python_in
from .shell import CACHE, output_of, run, say, stop


def kernels() -> Iterator[Path]:
    """Kernels to work on, best first: what the person names, what apt offers, the host's own, a small sample."""
    named = os.environ.get("PVOPS_KERNEL")
    if named:
        yield Path(named)
    root = os.environ.get("PVOPS_KERNELS")
    if root:
        yield from sorted(Path(root, "kernels").glob("vmlinuz-6.1.*-amd64"))
    offered = kernel_of_apt()
    if offered:
        yield offered
    yield from kernels_of_host()
    yield sample_kernel()


def kernel() -> Path:
    """The first of `kernels` that this version can work on: the one that ``demo`` shows."""
    environment()
    for path in kernels():
        if output_of(*pvops("sites", path, "--summary")) is not None:
            return path
    stop("pvops cannot list the sites of any kernel here, not even of its own sample")


def kernel_of_apt() -> Path | None:
    """The kernel of the package that ``linux-image-amd64`` depends on, downloaded and unpacked into ``.cache``."""
    depends = output_of("apt-cache", "depends", "linux-image-amd64")
    found = re.findall(r"^ *Depends: (linux-image-([\w.+-]*-amd64))$", depends or "", re.MULTILINE)
    if not found:
        say("apt offers no kernel (no apt, or its lists are empty: `apt-get update` fills them)")
        return None
    package, release = max(found, key=lambda p: [int(n) for n in re.findall(r"\d+", p[1])])
    target = CACHE / "kernels" / f"vmlinuz-{release}"
    if target.exists():
        return target
    return target if downloaded(package, {rf"vmlinuz-{re.escape(release)}": target}) else None


def modules_of_apt(release: str, names: Sequence[str]) -> list[Path]:
    """Modules of a kernel of Debian's, taken out of its package into ``.cache``; none where apt does not offer it."""
    folder = CACHE / "modules" / release
    targets = [folder / f"{name}.ko" for name in names]
    if not all(target.exists() for target in targets):
        wanted = {rf"{re.escape(target.name)}(\.[gx]z|\.zst)?": target for target in targets}
        # Since 7.0 they have a package of their own.
        if not any(downloaded(f"linux-{package}-{release}", wanted) for package in ("modules", "image")):
            return []
    return targets


def kernels_of_host() -> Iterator[Path]:
    """The host's own kernel, then the other readable ones in /boot, newest first."""
    own = Path(f"/boot/vmlinuz-{os.uname().release}")
    others = sorted(Path("/boot").glob("vmlinuz-*"), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in dict.fromkeys([own, *others]):
        if path.is_file() and os.access(path, os.R_OK):
            yield path


def sample_kernel() -> Path:
    """The small image that the package builds itself."""
    path = CACHE / "kernels" / "vmlinux-sample"
    path.parent.mkdir(parents=True, exist_ok=True)
    environment()
    run(python_in(VENV), "-m", "pvops.sample", path)
    return path
