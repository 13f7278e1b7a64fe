"""The machines that kernels are booted on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Mode:
    """A machine.

    Attributes:
        name: ``native-max-smp2``.
        cpu: QEMU's model of its CPU.
        processors: how many it has.
        options: what is added to the kernel's command line.
        hypervisor: what the kernel finds itself under: nothing, KVM (forced), or Xen, as its first guest, which is
            paravirtualized or has a machine of its own (PVH; QEMU emulates AMD's SVM and IOMMU below it); or real KVM
            in a machine in the middle, which shows what ``leaves`` says; or Xen as a guest that its tools start.
        kaslr: whether it may choose where it lies.
        dedicated: KVM hints that its processors are never preempted (KVM_HINTS_REALTIME).
        leaves: under real KVM, what its CPUID leaves say, as QEMU's flags of a CPU: those of KVM, Hyper-V, VMware.
        domain: of a guest that Xen's tools start, its type.
    """

    name: str
    cpu: str
    processors: int
    options: str = ""
    hypervisor: Literal["native", "kvm", "xen", "xen-pvh", "real-kvm", "xen-domain"] = "native"
    kaslr: bool = False
    dedicated: bool = False
    leaves: str = ""
    domain: Literal["", "pv", "pvh", "hvm"] = ""

    @property
    def scattered(self) -> bool:
        """Whether the guest's memory lies in pieces of the machine's."""
        return self.hypervisor in ("xen-pvh", "real-kvm", "xen-domain")

    @property
    def under_xen(self) -> bool:
        """Whether Xen is started, and the kernel by it."""
        return self.hypervisor in ("xen", "xen-pvh")

    @property
    def cmdline(self) -> str:
        """The kernel's command line; what follows ``--`` is for ``init.c``."""
        console, words = ("hvc0", "-- busy") if self.under_xen else ("hvc0" if self.domain else "ttyS0", "")
        place = "" if self.kaslr else "nokaslr"
        # In a guest's guest each character of the console takes as long as thousands of instructions.
        level = 3 if self.hypervisor in ("real-kvm", "xen-domain") else 7
        # On a busy host QEMU's timer comes too late for the check of its interrupt (check_timer(), io_apic.c).
        timer = "no_timer_check"
        return " ".join(f"{place} console={console} panic=-1 {timer} loglevel={level} {self.options} {words}".split())


#: Hyper-V's interface, as far as QEMU and KVM have it: no spinlocks.
_HYPERV = (
    "hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,hv-frequencies,hv-tlbflush,hv-ipi,"
    "hv-reset,hv-reenlightenment"
)
#: What QEMU 7.2's SVM gets wrong in a guest's guest: with XSAVE kernels of 7.x do not come up.
_NO_XSAVE = "xsave=off,avx=off,avx2=off,f16c=off,fma=off"


def _real(name: str, leaves: str, options: str = "", cpu: str = "max") -> tuple[Mode, ...]:
    """A guest of real KVM, with one processor and with two."""
    return tuple(
        Mode(f"{name}-smp{n}", f"{cpu},{_NO_XSAVE}", n, options, hypervisor="real-kvm", leaves=leaves) for n in (1, 2)
    )


def _domains(name: str, options: str = "") -> tuple[Mode, ...]:
    """A guest of Xen's tools of each type, with one processor and with two; XSAVE is off below all of them."""
    types: tuple[Literal["pv", "pvh", "hvm"], ...] = ("pv", "pvh", "hvm")
    return tuple(
        Mode(f"xen{t}-{'domu' if t == 'pv' else 'real'}-{name}-smp{n}", "max", n, options, "xen-domain", domain=t)
        for t in types
        for n in (1, 2)
    )


#: What every change has to pass.
USUAL = (
    Mode("native-max-smp1", "max", 1),
    Mode("native-max-smp2", "max", 2),
    Mode("kaslr-max-smp2", "max", 2, kaslr=True),
)
#: What ``PVOPS_BOOT_MODES`` offers besides.
MORE = (
    Mode("native-qemu64-smp1", "qemu64", 1),
    Mode("native-core2-smp2", "Conroe", 2),
    Mode("native-haswell-smp2", "Haswell", 2),
    Mode("native-skylake-smp2", "Skylake-Client", 2),
    Mode("native-epyc-smp2", "EPYC-Rome", 2),
    Mode("native-max-smp2-mitoff", "max", 2, "mitigations=off"),
    Mode("native-max-smp2-nosmp", "max", 2, "nosmp"),
    Mode("native-max-smp2-lfence", "max", 2, "spectre_v2=retpoline,lfence"),
    Mode("native-haswell-smp1-nopti", "Haswell", 1, "nopti"),
    Mode("kaslr-max-smp1", "max", 1, kaslr=True),
    Mode("kaslr-qemu64-smp2", "qemu64", 2, kaslr=True),
    Mode("kaslr-max-smp2-nopti", "max", 2, "nopti", kaslr=True),
    Mode("native-skylake-smp2-stuff", "Skylake-Client", 2, "retbleed=stuff spectre_v2=retpoline"),
    # From 6.15 on: enhanced IBRS leaves indirect branches to the thunks of ITS, in pages allocated at boot.
    Mode("native-haswell-smp2-eibrs", "Haswell", 2, "setcpuid=ibrs_enhanced"),
    Mode("native-epyc-smp2-ibpb", "EPYC-Rome", 2, "retbleed=ibpb"),
    Mode("native-epyc-smp2-nosmt", "EPYC-Rome", 2, "nosmt"),
    Mode("native-max-smp2-cleared", "max", 2, "clearcpuid=smap,erms,xsaves nopti"),
    # Options that turn keys of other code than mitigations.
    Mode("native-max-smp2-selinux", "max", 2, "lsm=selinux,bpf init_on_free=1 page_poison=1 slub_debug=FZ psi=0"),
    Mode("native-max-smp2-poll", "max", 2, "lsm= cgroup_disable=memory nohz=off highres=off preempt=none idle=poll"),
    Mode("native-max-smp2-stats", "max", 2, "preempt=lazy isolcpus=1 nohz_full=1 schedstats=enable delayacct"),
    Mode("native-max-smp2-messages", "max", 2, 'dyndbg="file drivers/acpi/* +p" numa_balancing=enable log_buf_len=4M'),
    Mode("kvm-max-smp1", "max", 1, hypervisor="kvm"),
    Mode("kvm-max-smp2", "max", 2, hypervisor="kvm"),
    Mode("kvm-epyc-smp2", "EPYC-Rome", 2, hypervisor="kvm"),
    Mode("kvm-haswell-smp2", "Haswell", 2, hypervisor="kvm"),
    Mode("kvm-max-smp2-dedicated", "max", 2, hypervisor="kvm", dedicated=True),
    Mode("kvm-max-smp2-nopvspin", "max", 2, "nopvspin", hypervisor="kvm"),
    Mode("kvm-max-smp2-nopv", "max", 2, "nopv", hypervisor="kvm"),
    # For 32-bit kernels.
    Mode("native-qemu32-smp1", "qemu32", 1),
    Mode("native-coreduo-smp2", "coreduo", 2),
    # With SMAP or SMEP the first return to dom0's user mode faults in QEMU 7.2.
    Mode("xenpv-max-smp1", "max,smap=off,smep=off", 1, hypervisor="xen"),
    Mode("xenpv-max-smp2", "max,smap=off,smep=off", 2, hypervisor="xen"),
    # Xen 4.17 cannot emulate RDTSCP there: QEMU 7.2 does not tell how long the instruction is.
    Mode("xenpvh-max-smp1", f"max,la57=off,rdtscp=off,{_NO_XSAVE}", 1, hypervisor="xen-pvh"),
    Mode("xenpvh-max-smp2", f"max,la57=off,rdtscp=off,{_NO_XSAVE}", 2, hypervisor="xen-pvh"),
    *_real("kvm-real-max", ""),
    *_real("kvm-real-hint-dedicated", "kvm-hint-dedicated=on"),
    *_real("kvm-real-nopvspin", "", "nopvspin"),
    *_real("kvm-real-nopv", "", "nopv"),
    *_real("kvm-real-epyc", "", cpu="EPYC-Rome"),
    *_real("kvm-real-haswell", "", cpu="Haswell"),
    *_real("kvm-real-hv", _HYPERV),
    *_real("hyperv-real-max", f"kvm=off,{_HYPERV}"),
    *_real("hyperv-real-few", "kvm=off,hv-relaxed,hv-vpindex,hv-vapic"),
    *_real("hyperv-real-nopvspin", f"kvm=off,{_HYPERV}", "hv_nopvspin"),
    *_real("hyperv-real-epyc", f"kvm=off,{_HYPERV}", cpu="EPYC-Rome"),
    *_real("vmware-real-max", "kvm=off,hv-relaxed,hv-vendor-id=VMwareVMware,vmware-cpuid-freq=on"),
    *_domains("max"),
    *_domains("nopvspin", "nopvspin"),
    *_domains("nopv", "xen_nopv nopv"),
)


def chosen(*, kaslr: bool = False) -> list[Mode]:
    """The modes to boot, with KASLR or without: the usual ones, or what ``PVOPS_BOOT_MODES`` says: ``all`` or names."""
    words = os.environ.get("PVOPS_BOOT_MODES", "")
    known = {mode.name: mode for mode in (*USUAL, *MORE)}
    if not words:
        modes = list(USUAL)
    elif words == "all":
        modes = list(known.values())
    else:
        names = [name.strip() for name in words.split(",") if name.strip()]
        wrong = [name for name in names if name not in known]
        if wrong:
            raise ValueError(f"PVOPS_BOOT_MODES: no mode {', '.join(wrong)}; there are {', '.join(known)}, and all")
        modes = [known[name] for name in names]
    return [mode for mode in modes if mode.kaslr == kaslr]
