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


def hvm_call(facts: Facts, backend: str) -> str | None:
    """The instruction by which Xen fills the hypercall page of a guest with a machine of its own; None for others.

    Xen's vmx_init_hypercall_page() and svm_init_hypercall_page(). Intel's where the CPU is not told.
    """
    if backend != "xen-hvm" or (facts.machine.backend[0] == backend and guest_code_runs(facts).value is False):
        return None
    return "vmmcall" if facts.amd else "vmcall"
