"""Why a pass wrote what it wrote, in sentences: for `explain`, `diff` and their pages."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.plan.plan import Plan
    from pvops.plan.writes import Write

_BECAME = {
    "called": "a direct call",
    "jumped": "a direct jump: the op never returns",
    "nopped": "nothing to do: nops",
    "moved": "it returns its argument: a mov",
    "inlined": "inlined: {reason}",
    "trapped": "NULL must never be called: ud2",
    "bug-called": "NULL must never be called: a call of {null}()",
    "kept": "kept: {reason}",
}


def sentences(plan: Plan, write: Write) -> list[str]:
    """Why a write is what it is, one sentence a line."""
    lines = []
    if write.op is not None and write.op in plan.slots:
        slot = plan.slots[write.op]
        held = slot.symbol or (f"{slot.address:#x}" if slot.address else "NULL")
        lines.append(f"{write.op} holds {held}: {slot.why} [{slot.source}]")
    became = _BECAME.get(write.kind)
    if write.table == "paravirt" and became:
        null = plan.rules.paravirt.null if plan.rules.paravirt else ""
        sentence = became.format(reason=write.reason, null=null)
    else:
        sentence = f"{write.kind}: {write.reason}"
    lines.append(f"{sentence} [{write.source}]")
    source = _source(plan, write)
    if source is not None:
        lines.append(source)
    rest = len(write.bytes) - write.used
    if rest > 0 and write.table == "paravirt":
        lines.append(f"{rest} {'byte' if rest == 1 else 'bytes'} of {plan.nops.table} nops: {plan.nops.why}")
    return lines


def _source(plan: Plan, write: Write) -> str | None:
    """The source of the fact that the pass itself only looked up."""
    setup = plan.setup
    if write.table == "smp_locks":
        return f"CPUs: {setup.uniprocessor[1]}"
    if write.table in ("returns", "retpolines"):
        asked = ("RETHUNK", "INDIRECT_THUNK_ITS") if write.table == "returns" else ("RETPOLINE", "RETPOLINE_LFENCE")
        found = [feature for name in asked if setup.words is not None and (feature := setup.words.named(name))]
        states = [f"{f.name.name} {'is' if f.guess else 'is not'} set ({f.source})" for f in found]
        return "; ".join(states) or None
    key = plan.key_of(write.table, write.row)
    if key is None:
        return None
    state = (setup.keys if write.table == "jump_labels" else setup.calls).get(key)
    return None if state is None else f"{state.symbol or f'{key:#x}'}: {state.source}"
