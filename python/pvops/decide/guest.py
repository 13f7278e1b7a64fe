"""Whether a hypervisor's guest code runs at all."""

from __future__ import annotations

from pvops.decide.answers import Answer, Facts


def guest_code_runs(facts: Facts) -> Answer:
    """Whether the init code of the machine's hypervisor runs: options like ``nopv`` keep it from running."""
    from pvops import backends

    name, source = facts.machine.backend
    if name is None or name not in backends.of_images():
        return Answer(None if name is None else False, source)
    backend = backends.get(name)
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


def _said(facts: Facts, line: str, guess: bool) -> Answer:
    said = facts.logged(line)
    return Answer(said, f'log: {"" if said else "no "}"{line}"' if said is not None else "no log tells", guess)


def hvm_call(facts: Facts, backend: str) -> str | None:
    """The instruction by which Xen fills the hypercall page of a guest with a machine of its own; None for others.

    Xen's vmx_init_hypercall_page() and svm_init_hypercall_page(). Intel's where the CPU is not told.
    """
    if backend != "xen-hvm" or (facts.machine.backend[0] == backend and guest_code_runs(facts).value is False):
        return None
    return "vmmcall" if facts.amd else "vmcall"
