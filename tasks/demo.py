"""The first thing to see: a kernel, its sites, one of them explained, all of them patched."""

from __future__ import annotations

import json
from typing import Any

from .environment import environment, pvops
from .kernels import kernels
from .shell import CACHE, ROOT, Options, output_of, run, run_status, say, stop


def demo(options: Options) -> None:
    """Lists the paravirt sites of a kernel, explains one, and writes the image patched for KVM."""
    environment()
    for image in kernels():
        if run_status(*pvops("sites", image, "--summary")) == 0:
            break
        say(f"{image.name}: not a kernel that this version can work on; taking the next")
    print()
    listing = output_of(*pvops("sites", image, "--json"))
    if listing is None:
        stop(f"pvops cannot list the sites of {image}")
    address = worth_explaining(json.loads(listing))
    backend = "kvm"
    words = ("explain", image, address, "--backend", "native", "--backend")
    if run_status(*pvops(*words, backend)) != 0:
        say(f"{image.name} is built without KVM guest support: native alone")
        backend = "native"
        run(*pvops("explain", image, address))
    print()
    patched = CACHE / f"{image.name.replace('vmlinuz', 'vmlinux')}-{backend}"
    run(*pvops("patch", image, "--backend", backend, "-o", patched))
    size = patched.stat().st_size
    say(f"wrote {patched.relative_to(ROOT)}, {size:,} bytes: an ELF image that objdump and gdb read")


def worth_explaining(document: dict[str, Any]) -> str:
    """The address of a site whose story is worth telling: one that a hypervisor changes, else the first."""
    sites = document["sites"]
    for op in ("pv_lock_ops.queued_spin_lock_slowpath", "pv_irq_ops.irq_enable"):
        for site in sites:
            if site["section"] == ".text" and site["rows"][0]["op"] == op:
                return str(site["address"])
    if not sites:
        stop("the kernel has no paravirt sites")
    return str(sites[0]["address"])
