"""3.0: nops are chosen once at boot (dc326fca2b64), for every Intel CPU by a mistake like for the others.

A ``break`` is missing between the vendors; d6250a3f12ed (3.6, and the stable releases of 15 August 2012) puts it there.
On i386 nothing refers to P6 nops then, and gcc leaves their table out: an image without it has no break.
Source: 3.2.7 arch/x86/kernel/alternative.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_38
from pvops.eras.nops import Mended, ideal_nops

ERA = v2_6_38.ERA.then("3.0", "3.2.7: arch/x86/kernel/alternative.c")._replace(
    nops=ideal_nops(intel=False, amd=False, hygon=False, k8=False)._replace(
        mended=Mended(ideal_nops(amd=False, hygon=False, k8=False), ((3, 0, 41), (3, 2, 28), (3, 4, 9)))
    ),
    backends=("native", "kvm", "xen", "xen-hvm", "vmware", "hyperv"),
)
