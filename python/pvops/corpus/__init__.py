"""A folder of kernels, each opened, and held to what it was in memory after a boot.

>>> from pvops import corpus
>>> for kernel in corpus.judge_all(corpus.folder("kernels")):
...     print(kernel.release, kernel.outcome)
6.1.0-pvops-sample opened
"""

from __future__ import annotations

from pvops.corpus.files import BootFiles, Folder, KernelFiles, folder
from pvops.corpus.judged import judge
from pvops.corpus.many import judge_all
from pvops.corpus.results import BootResult, Guesses, KernelResult

__all__ = [
    "BootFiles",
    "BootResult",
    "Folder",
    "Guesses",
    "KernelFiles",
    "KernelResult",
    "folder",
    "judge",
    "judge_all",
]
