"""A running guest is patched as any kernel is, and all that 2007's rules can do to a site happens in one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emulate.guests import built, image, ran
from pvops.assembler.x86 import nop
from pvops.emulate import GuestImage, Session, hosts
from pvops.emulate.abi.kvm import FEATURES, SIGNATURE
from pvops.emulate.guest import shipped
from pvops.emulate.guest.program import Call, Raw
from pvops.emulate.macros.paravirt import Paravirt
from pvops.machine.machine import Machine

AMD_K8, AMD_K7, INTEL = (
    Machine(name="test", vendor=vendor, family=family, model=1)
    for vendor, family in (("AuthenticAMD", 15), ("AuthenticAMD", 6), ("GenuineIntel", 6))
)

#: What the emulated KVM offers its guest.
OFFERS = {
    (0x4000_0000, 0): dict(zip(("eax", "ebx", "ecx", "edx"), (0, *SIGNATURE), strict=True)),
    (0x4000_0001, 0): {"eax": FEATURES, "ebx": 0, "ecx": 0, "edx": 0},
}


@pytest.mark.parametrize("name", ["boot", "switch", "lock"])
@pytest.mark.parametrize(
    ("era", "backend", "nops", "machine"),
    [
        ("seed", "native", "k8", AMD_K8),
        ("seed", "native", "k7", AMD_K7),
        ("seed", "native", "generic", INTEL),
        ("2.6.33", "native", "k8", AMD_K8),
        ("seed", "lguest", "k8", AMD_K8),
        ("2.6.33", "lguest", "k8", AMD_K8),
        ("seed", "xen", "k8", AMD_K8),
        ("2.6.33", "xen", "k8", AMD_K8),
        ("2.6.33", "kvm", "k8", replace(AMD_K8, cpuid=OFFERS)),
    ],
)
def test_the_text_that_runs_is_what_the_kernels_plan_says(
    name: str, era: str, backend: str, nops: str, machine: Machine
) -> None:
    """Init code that ran in the guest has filled the structures: what is declared of it finds the same functions."""
    guest = image(name, era)
    session = Session(guest, hosts.of(backend, era)(guest))
    session.boot()
    if (era, backend) == ("2.6.33", "xen"):
        # xen_post_allocator_init(), which no op leads to and the guest leaves out.
        session.hold("pv_mmu_ops.set_pmd", "xen_set_pmd")
    session.patch(nops)
    at, text = guest.built.sections[".text"]
    plan = guest.kernel.plan(backend, machine=machine)
    assert plan.nops.table == nops
    ran_on, planned = bytearray(session.cpu.read(at, len(text))), bytearray(plan.apply())
    if backend == "xen":
        # Xen fills the page of its hypercalls while the guest boots; it is not the kernel that does.
        page = guest.address("hypercall_page") - at
        assert planned[page : page + 4096] != ran_on[page : page + 4096]
        planned[page : page + 4096] = ran_on[page : page + 4096]
    assert ran_on == planned


def test_each_thing_that_can_become_of_a_site() -> None:
    """Inlined, nopped, called, jumped to, left for clobbers or for length, ud2 for NULL."""
    pv = Paravirt("seed")
    short = pv.PARA_SITE(pv.template.op("pv_cpu_ops.wbinvd").type, pv.CLBR_ANY, nop())
    entry = pv.DISABLE_INTERRUPTS(pv.CLBR_ANY)
    guest = built(
        *(Call(f"pv_cpu_ops.{op}") for op in ("clts", "wbinvd")),
        Call("pv_misc_ops.set_lazy_mode", (0,)),
        Call("pv_irq_ops.irq_disable"),
        Call("pv_irq_ops.safe_halt"),
        Raw((entry, short)),
    )
    forms: dict[str, set[tuple[str, str]]] = {}
    for backend in hosts.BACKENDS["seed"]:
        session = Session(guest, hosts.of(backend, "seed")(guest))
        session.boot()
        session.hold("pv_irq_ops.safe_halt", None)
        for patch in session.patch():
            forms.setdefault(backend, set()).add((patch.op.partition(".")[2], patch.form))
    assert {("clts", "inlined"), ("set_lazy_mode", "nop"), ("wbinvd", "call"), ("wbinvd", "left")} <= forms["native"]
    assert {("iret", "jmp"), ("irq_disable", "inlined"), ("safe_halt", "ud2")} <= forms["lguest"]
    # From C a call is refused, for the wrapper lets go of eax only; in the assembler's macro it is not.
    assert {("irq_disable", "left"), ("irq_disable", "call")} <= forms["xen"]


def test_patching_again_forgets_what_was() -> None:
    guest = image("switch", "seed")
    session = Session(guest, hosts.of("native", "seed")(guest))
    session.boot()
    at, text = guest.built.sections[".text"]
    texts = []
    for nops in ("k8", "k7", "k8"):
        session.patch(nops)
        texts.append(session.cpu.read(at, len(text)))
    assert texts[0] == texts[2] != texts[1]


def test_the_image_opens_with_its_names() -> None:
    for era in ("seed", "2.6.33"):
        kernel = GuestImage(shipped.program("boot"), era).kernel
        assert kernel.era == ("2.6.24-rc1" if era == "seed" else era)
        assert {op for op, _ in image("boot", era).sites().values()} <= set(kernel.ops.names)
        assert kernel.ops.native["pv_irq_ops.irq_enable"].symbol == "native_irq_enable"


def test_unpatched_and_patched_runs_call_the_same_ops() -> None:
    for era in ("seed", "2.6.33"):
        for backend in hosts.BACKENDS[era]:
            assert ran(image("boot", era), backend, patched=False).ops == ran(image("boot", era), backend).ops
