"""The backends whose code a guest image has: functions, init code, data; what they fill is `pvops.backends`'."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pvops.assembler import asciz, function, label, u32
from pvops.assembler.statements import Body
from pvops.assembler.x86 import jmp, ret
from pvops.emulate.guest import kvm, lguest, xen, xen_placed
from pvops.emulate.guest.layout import Build
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.kernel import GuestKernel
    from pvops.eras.structs import OpsStruct


class GuestBackend(NamedTuple):
    """One backend's part of a guest image.

    Attributes:
        name: of the backend.
        eras: in which it exists.
        functions: its ops, as code.
        start: where its guests start, and its init code, which fills the structures as it is given.
        data: what it keeps.
        structs: the filled structures.
        info: what it writes into ``pv_info``: numbers, and the label of its name.
    """

    name: str
    eras: tuple[str, ...]
    functions: Callable[[Build], Body]
    start: Callable[[Build, Body], Body]
    data: Callable[[Build], Body]
    structs: Callable[[GuestKernel], Iterable[OpsStruct]]
    info: Callable[[GuestKernel], Mapping[str, int | str]]


def _lguest_structs(image: GuestKernel) -> Iterable[OpsStruct]:
    from pvops.backends import lguest as backend

    return backend.structs(image.pv.era, image.config)


LGUEST = GuestBackend(
    "lguest",
    ("seed", "2.6.33"),
    lguest.functions,
    lguest.start,
    lguest.data,
    _lguest_structs,
    lambda image: {"name": "lguest_info", "paravirt_enabled": 1, "kernel_rpl": 1},
)


def _xen_structs(image: GuestKernel) -> Iterable[OpsStruct]:
    from pvops.backends import xen_2007

    return xen_2007.structs(image.pv.era, image.config)


XEN = GuestBackend(
    "xen",
    ("seed", "2.6.33"),
    xen.functions,
    xen.start,
    xen.variables,
    _xen_structs,
    lambda image: {"name": "xen_info", "paravirt_enabled": 1, "kernel_rpl": 1, "shared_kernel_pmd": 0},
)


def _placed_structs(image: GuestKernel) -> Iterable[OpsStruct]:
    from pvops.backends import xen_2007

    return xen_2007.structs(image.pv.era, image.config, placement=True)


XEN_PLACEMENT = XEN._replace(
    name="xen-placement",
    functions=xen_placed.functions,
    start=xen_placed.start,
    data=lambda build: (label("have_vcpu_info_placement"), u32(0)),
    structs=_placed_structs,
)


def _kvm_structs(image: GuestKernel) -> Iterable[OpsStruct]:
    from pvops.backends import kvm_2010

    return kvm_2010.structs(image.pv.era, image.config)


KVM = GuestBackend(
    "kvm",
    ("2.6.33",),
    kvm.functions,
    kvm.start,
    kvm.variables,
    _kvm_structs,
    lambda image: {"name": "kvm_info", "paravirt_enabled": 1},
)

_BACKENDS = (LGUEST, XEN, XEN_PLACEMENT, KVM)


def of_era(era: str) -> list[GuestBackend]:
    """The backends that kernels of an era have."""
    return [backend for backend in _BACKENDS if era in backend.eras]


def backend(name: str, ops: Mapping[str, Body]) -> GuestBackend:
    """A backend of one's own: its guests start at ``NAME_entry``, its patch function has only the default rules.

    Args:
        name: of the backend and of the host.
        ops: full name of an op → the instructions of its function, which is called ``NAME_OP``.
    """
    symbols = {op: f"{name}_{op.partition('.')[2].replace('.', '_')}" for op in ops}

    def structs(image: GuestKernel) -> Iterable[OpsStruct]:
        for struct in image.pv.era.native(image.config):
            struct_name = type(struct).__name__
            own: dict[str, str] = {
                op.partition(".")[2]: symbol for op, symbol in symbols.items() if op.startswith(f"{struct_name}.")
            }
            if struct_name == "pv_init_ops":
                own["patch"] = f"{name}_patch"
            yield struct.replace(**own)

    def functions(build: Build) -> Body:
        return (function(f"{name}_patch", ret()), *(function(symbols[op], body) for op, body in ops.items()))

    return GuestBackend(
        name,
        (),
        functions,
        lambda build, fill: function(f"{name}_entry", fill, jmp("start_kernel")),
        lambda build: (label(f"{name}_info"), asciz(name)),
        structs,
        lambda image: {"name": f"{name}_info", "paravirt_enabled": 1, "kernel_rpl": 1},
    )
