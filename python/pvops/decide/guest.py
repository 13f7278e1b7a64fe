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
