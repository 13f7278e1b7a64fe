"""Features that a hypervisor's guest code forces, and those that follow from how ``pv_ops`` is filled."""

from __future__ import annotations

from pvops.decide.answers import Answer, Facts
from pvops.decide.registry import rule

_VMWARE = 0x40000000


@rule("xen/enlighten_pv.c: xen_start_kernel()", "XENPV")
def xenpv(facts: Facts) -> Answer:
    """A Xen PV guest."""
    return facts.xen_pv


@rule("kernel/paravirt-spinlocks.c: paravirt_set_cap()", "PVUNLOCK")
def pvunlock(facts: Facts) -> Answer:
    """Unlocking is not native: the hypervisor's spin locks are in use."""
    return _filled(facts, "queued_spin_unlock")


@rule("kernel/paravirt-spinlocks.c: paravirt_set_cap()", "VCPUPREEMPT")
def vcpupreempt(facts: Facts) -> Answer:
    """The hypervisor tells whether another CPU is preempted."""
    return _filled(facts, "vcpu_is_preempted")


def _filled(facts: Facts, op: str) -> Answer:
    """Whether the backend's init code puts something of its own into an op of pv_lock_ops."""
    from pvops import backends, eras
    from pvops.backends.backend import Assign

    name, source = facts.machine.backend
    if name is None:
        return Answer(None, source)
    if name not in backends.of_images():
        return Answer(False, f"{name} fills no lock operations ({source})")
    backend = backends.get(name)
    era = eras.of_version(facts.version)
    steps = None if era is None else backend.steps(era)
    if steps is None:
        return Answer(None, f"backend {name} has no rules for {facts.version}")
    runs = backend.detected(facts.machine, backend.hypervisor)
    found = Answer(False, f"backend {name} leaves pv_lock_ops.{op} native")
    for step in steps:
        if isinstance(step, Assign) and step.op == f"pv_lock_ops.{op}":
            when = step.when(facts.machine, backend.hypervisor) if runs.holds else runs
            symbol = step.symbol.partition("|")[0]
            # What is assumed is a guess.
            value = None if when.assumed else when.holds
            if when.holds:
                found = Answer(value, f"pv_lock_ops.{op} is {symbol}: {when.why or 'always set'}", True)
            elif not found.best:
                found = Answer(value, f"pv_lock_ops.{op} is not {symbol}: {when.why}", False)
    return found


@rule("vmware.c: vmware_set_capabilities()", "VMCALL", "VMW_VMMCALL")
def vmware(facts: Facts) -> Answer:
    """VMware's way of a hypercall, from the log or from CPUID leaf 0x40000010; `of_mode` tells the two apart."""
    name, source = facts.machine.hypervisor
    if name != "vmware":
        return Answer(None if name is None else False, f"no VMware guest ({source})")
    mode, source = _mode(facts)
    return Answer(None if mode is None else bool(mode), source)


def _mode(facts: Facts) -> tuple[int | None, str]:
    line = facts.machine.logged("vmware: hypercall mode: 0x")
    if line and (found := line.split("0x")[1].strip()[:2]).isalnum():
        return int(found, 16), f'log: "{line}"'
    leaf = facts.machine.cpuid.get((_VMWARE + 0x10, 0))
    if leaf is None:
        return None, "neither VMware's cpuid leaf 0x40000010 nor its line of the log is among the facts"
    return leaf["ecx"] & 3, f"cpuid leaf 0x40000010 ecx is {leaf['ecx']:#x}"


def of_mode(feature: str, facts: Facts, answer: Answer) -> Answer:
    """VMW_VMMCALL is mode 1, VMCALL mode 2, exactly; any other mode is the I/O port (vmware_set_capabilities())."""
    if not answer.value:
        return answer
    return Answer(_mode(facts)[0] == (1 if feature == "VMW_VMMCALL" else 2), answer.source)
