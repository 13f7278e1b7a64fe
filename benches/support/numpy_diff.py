"""What a script does with numpy: the bytes in which two texts differ, and how many of them are each pass's.

    python benches/support/numpy_diff.py FOLDER

A peer that ``benches/verify.rs`` runs beside ours, in one process for all its turns, so that neither Python's start nor
the import counts. FOLDER has the texts, ``built`` and ``memory``, and ``writes``, the plan: offset, length and pass of
each write, as three little-endian u32. Ready, it prints how many bytes differ within writes and how many elsewhere;
then each line read is a number of turns, and answered with the nanoseconds they took. Whether the bytes are the right
ones, as the verifier asks, it does not ask.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

#: The pass of bytes that no write touches.
NOBODY = 255


def main() -> None:
    """Loads, and serves turns until its input ends."""
    folder = Path(sys.argv[1])
    built, memory = (np.fromfile(folder / name, np.uint8) for name in ("built", "memory"))
    owner = np.full(built.size, NOBODY, np.uint8)
    for offset, length, which in np.fromfile(folder / "writes", "<u4").reshape(-1, 3).tolist():
        owner[offset : offset + length] = which
    starts = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))
    passes = owner[starts]

    def attributed() -> np.ndarray:
        changed = np.flatnonzero(built != memory)
        return np.bincount(passes[np.searchsorted(starts, changed, "right") - 1], minlength=NOBODY + 1)

    counts = attributed()
    print(counts[:NOBODY].sum(), counts[NOBODY], flush=True)
    for line in sys.stdin:
        began = time.perf_counter_ns()
        for _ in range(int(line)):
            attributed()
        print(time.perf_counter_ns() - began, flush=True)


if __name__ == "__main__":
    main()
