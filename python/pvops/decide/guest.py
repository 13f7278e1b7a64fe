"""Whether a hypervisor's guest code runs at all."""

from __future__ import annotations

from pvops.decide.answers import Answer, Facts
from pvops.types_only import TypedDict


def guest_code_runs(facts: Facts) -> Answer:
    """Whether the init code of the machine's hypervisor runs: options like ``nopv`` keep it from running, and a kernel
    may be built without it."""
    from pvops import backends

    name, source = facts.machine.backend
    if name is None or name not in backends.of_images():
        return Answer(None if name is None else False, source)
    backend = backends.get(name)
    if (needs := [symbol for symbol in backend.needs.split("|") if symbol]) and facts.without(*needs):
        return Answer(False, f"the kernel is built without {backend.title} (no symbol {needs[0]})")
    holds, why, _ = backend.detected(facts.machine, backend.hypervisor)
    return Answer(holds, why or source, True)


def clock_is_the_hypervisors(facts: Facts) -> Answer:
    """Whether ``pv_sched_clock`` becomes the hypervisor's, where its init code runs.

    kvm_sched_clock_init() and vmware_cyc2ns_setup() say so. hv_init_tsc_clocksource() asks the host, and
    xen_hvm_init_time_ops() has a callback vector and HVM's pvclock be there; a PV guest asks for nothing.
    """
    name, source = facts.machine.hypervisor
    if name == "xen-hvm":
        given = facts.given("xen_no_vector_callback")
        if given:
            return Answer(False, f"{given} on the command line: xen_hvm_init_time_ops()")
        line = "Xen doesn't support pvclock on HVM"
        return Answer(False, f'log: "{line}"') if line in facts.machine.dmesg else Answer(True, source)
    if name == "kvm":
        offered = [facts.machine.feature("kvm", bit) for bit in ("CLOCKSOURCE2", "CLOCKSOURCE")]
        guess = not facts.given("no-kvmclock") and any(found.value is not False for found in offered)
        return _said(facts, "kvm-clock: using sched offset of", guess)
    if name == "vmware":
        return _said(facts, "vmware: using clock offset of", not facts.given("no-vmw-sched-clock"))
    if name == "hyperv":
        found = facts.machine.feature("hyperv", "REFERENCE_TSC_AVAILABLE")
        return Answer(found.value, f"HV_MSR_REFERENCE_TSC_AVAILABLE ({found.source})", True)
    return Answer(name == "xen-pv", source)


#: Who reads the clock of a guest, by its hypervisor.
_CLOCKS = {
    "xen-pv": "xen_sched_clock",
    "xen-hvm": "xen_sched_clock",
    "kvm": "kvm_sched_clock_read",
    "vmware": "vmware_sched_clock",
    "hyperv": "read_hv_sched_clock_tsc",
}


def clock_reader(facts: Facts) -> tuple[str | None, str]:
    """Who reads the clock of a guest whose init code runs, and why; None where the TSC is read as natively."""
    name, _ = facts.machine.hypervisor
    clock = clock_is_the_hypervisors(facts)
    if clock.best:
        return _CLOCKS.get(name or ""), clock.source
    if name == "hyperv":  # hv_init_clocksource(); 6.1 has it still, 6.12 not
        counts = facts.machine.feature("hyperv", "TIME_REF_COUNT_AVAILABLE")
        if counts.value:
            return "read_hv_sched_clock_msr", f"no TSC page, HV_MSR_TIME_REF_COUNT_AVAILABLE ({counts.source})"
    return None, clock.source


def _said(facts: Facts, line: str, guess: bool) -> Answer:
    said = facts.logged(line)
    return Answer(said, f'log: {"" if said else "no "}"{line}"' if said is not None else "no log tells", guess)


def hvm_call(facts: Facts, backend: str) -> str | None:
    """The instruction by which Xen fills the hypercall page of a guest with a machine of its own; None for others.

    Xen's vmx_init_hypercall_page() and svm_init_hypercall_page(). Intel's where the CPU is not told.
    """
    if backend != "xen-hvm" or (facts.machine.backend[0] == backend and guest_code_runs(facts).value is False):
        return None
    return _leaves(facts)


def _leaves(facts: Facts) -> str:
    return "vmmcall" if facts.amd else "vmcall"


class Unlisted(TypedDict, total=False):
    """What no table names, as `_core.Boot` takes it."""

    xen: bool
    hvm_call: str | None


def unlisted_otherwise(facts: Facts, hvm: str | None, some_guest: bool) -> Unlisted:
    """What Xen writes that no table names, with what the machine does not tell taken the other way.

    Below some hypervisor it may be Xen, and the kernel its PV guest where nothing rules that out. Where the CPU is not
    told, a guest with a machine of its own may call Xen by the other instruction.
    """
    # a13f2ef168cb (5.9): no kernel of 32 bits is a PV guest any more.
    if some_guest and facts.xen_pv.value is None and (facts.bits == 64 or facts.version < (5, 9)):
        return {"xen": True}
    if some_guest:
        return {"hvm_call": _leaves(facts)}
    if hvm is not None and facts.vendor is None:
        return {"hvm_call": "vmmcall" if hvm == "vmcall" else "vmcall"}
    return {}
