"""What the package gives, for type checkers and editors; ``__init__.py`` imports each name when it is asked for."""

from pvops import backends as backends
from pvops import bench as bench
from pvops import eras as ops
from pvops import errors as errors
from pvops._core import HybridLock as HybridLock
from pvops._core import TicketLock as TicketLock
from pvops._core import __version__ as __version__
from pvops.backends.backend import Backend as Backend
from pvops.errors import Error as Error
from pvops.image import memory as memory
from pvops.image.sites import Sites as Sites
from pvops.kernel import Kernel as Kernel
from pvops.kernel import open as open
from pvops.machine.machine import Machine as Machine
from pvops.plan.plan import Plan as Plan
from pvops.verify.report import Report as Report

__all__ = [
    "Backend",
    "Error",
    "HybridLock",
    "Kernel",
    "Machine",
    "Plan",
    "Report",
    "Sites",
    "TicketLock",
    "__version__",
    "backends",
    "bench",
    "errors",
    "memory",
    "open",
    "ops",
]
