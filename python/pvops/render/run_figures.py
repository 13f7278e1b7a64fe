"""What the documents of `pvops run` say alike of a guest on one virtual CPU and of one on several."""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.session import Result
    from pvops.emulate.smp.job import LockResult


def figures(
    result: Result | LockResult,
    *,
    hypercalls: Mapping[str, int],
    queued: Mapping[str, int],
    batches: int,
    traps: int,
) -> dict[str, object]:
    """What was executed and called, in which state the guest ended, and why it stopped."""
    return {
        "instructions": result.instructions,
        "indirect_calls": result.indirect_calls,
        "hypercalls": dict(hypercalls),
        "queued": dict(queued),
        "batches": batches,
        "ops": dict(result.ops),
        "forms": dict(result.forms),
        "final_state": result.final_state,
        "stop": result.stop.kind,
        "stop_address": f"{result.stop.address:#x}",
        "stop_reason": result.stop.why,
        "traps": traps,
        "seconds": round(result.seconds, 6),
    }
