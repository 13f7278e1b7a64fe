"""The guest of x86-64: one kernel with the code of every backend in it, as distributions ship it, and the tour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from pvops import eras
from pvops.assembler import Built, Image, Value, addr, align, asciz, function, label, mem, space, u32, u64
from pvops.assembler import x86 as x
from pvops.assembler.operands import eax, ecx, rax, rcx
from pvops.assembler.statements import Body
from pvops.backends.headers import held_by
from pvops.emulate.abi.kvm import FEATURES
from pvops.emulate.guest.built import BuiltGuest
from pvops.emulate.guest.compile import RESULTS
from pvops.emulate.guest.wide import ERAS, NAME, entry, kvm, locks, native, tour, xen
from pvops.emulate.guest.wide.layout import ENTRIES, MMS, STACK_SIZE, TLS_ARRAY, tables
from pvops.emulate.macros.paravirt import Paravirt
from pvops.errors import RunError, there_are

#: KVM_FEATURE_NOP_IO_DELAY, of 3.12 with KVM_FEATURE_PV_UNHALT.
UNHALT = 1 << 1 | 1 << 7


class WideImage(BuiltGuest):
    """The tour, built for an era.

    Args:
        era: of `ERAS`.
        without: classes configured out.
        length: the least length of a site in bytes: padding.
        backend: call every op that is a function there, which no other backend may have.
        body: instructions before the tour.

    Raises:
        RunError: no such era.
    """

    bits = 64

    def __init__(
        self,
        era: str = "2.6.33",
        *,
        without: Iterable[str] = (),
        length: int = 0,
        backend: str | None = None,
        body: Body = (),
    ) -> None:
        if era not in ERAS:
            raise RunError(f"no {NAME} of era {era}{there_are(era, ERAS)}")
        if classes := [name for name in without if name]:
            raise RunError(f"{NAME} calls every op: no class of them is configured out, as {classes[0]} would be")
        self.era = era
        self.name = NAME
        self.config = eras.era(era).default_config(64, PARAVIRT_SPINLOCKS=True)
        self.pv = Paravirt(era, self.config, length=length)
        held = self.held("native")
        called = tour.everywhere(held) if backend is None else tour.of_backend(self.held(backend))
        program = tour.Tour(self.pv, called)
        self.built = self._assemble(program, body)
        self.symbols = self.built.symbols
        self.plain = {self.symbols[at]: op for at, op in program.plain.items()}

    def held(self, backend: str) -> Mapping[str, str | None]:
        """What each op points to below a backend."""
        structures = eras.era(self.era)
        if self.era == "2.6.33" or backend == "native":
            return held_by(backend, structures, self.config)
        before = held_by("xen", eras.era("2.6.33"), eras.era("2.6.33").default_config(64))
        found: dict[str, str | None] = dict(held_by("native", structures, self.config))
        if backend == "xen":
            found |= {op: function for op, function in before.items() if op in found and "lock" not in op and function}
        return {**found, **{"xen": xen.OPS_3_12, "kvm": kvm.OPS_3_12}[backend]}

    def _assemble(self, program: tour.Tour, body: Body) -> Built:
        image = Image(64)
        own = native.functions()
        tables(image)
        later = self.era != "2.6.33"
        self.pv.kernel(image, defined=own)
        image.text(*(function(name, *body) for name, body in own.items()))
        image.text(function("startup_native", x.jmp("start_kernel")), function("start_kernel", x.jmp("check_bugs")))
        image.text(function("check_bugs", body, program.body(), x.jmp("done")), function("done", x.jmp("done")))
        image.text(entry.functions(self.pv), self._record(), function("bad_trap", x.jmp("bad_trap")))
        image.text(kvm.functions(self.pv), kvm.start(self.fill("kvm", "kvm_info"), UNHALT if later else FEATURES))
        image.text(xen.functions(self.pv), xen.start(self.fill("xen", "xen_info"), later))
        image.section(".text.entry", address=ENTRIES, flags=4)(
            *((align(16), x.jmp("page_fault" if vector == 14 else "bad_trap")) for vector in range(32))
        )
        entry.user_space(image)
        image.data(*self._variables(), locks.variables(), xen.variables(), kvm.variables())
        return image.build("startup_native")

    def _record(self) -> Body:
        full = "record_full"
        return function(
            "record",
            *(x.pushq(rcx), x.movl(mem("result_count"), ecx), x.cmpl(RESULTS, ecx), x.je(full)),
            *(x.movl(eax, mem("results", None, rcx, 4)), x.addl(1, mem("result_count"))),
            *(label(full), x.popq(rcx), x.ret()),
        )

    def _variables(self) -> Iterable[Body]:
        words = {"lazy_sections": 1, "paravirt_lazy_mode": 0, "result_count": 0, "spinlock": 0, locks.LOCK: 0}
        yield (
            align(16),
            [(label(name), u32(value)) for name, value in (words | {"have_vcpu_info_placement": 0}).items()],
        )
        yield align(8), label("current_mm"), u64(addr("mm0")), label("current_pt"), u64(addr("mm0_pt"))
        yield label("this_stack"), u64(0), label("old_rsp"), u64(0)
        for n in range(MMS):
            yield label(f"mm{n}"), u64(addr(f"mm{n}_pgd"))
            # A thread: its stack, then its TLS descriptors.
            yield label(f"thread{n}"), u64(Value("kernel_stack", STACK_SIZE - 0x1000 * (n + 1))), space(TLS_ARRAY - 8)
            yield (u32(0x100 * n + i, 0x00CFF200 + n) for i in range(3))
        yield label("results"), space(4 * RESULTS), align(0x1000), label("apic_page"), space(0x1000)
        yield label("scratch"), space(64), label("end_of_data"), asciz("end")

    def fill(self, backend: str, name: str) -> Body:
        """Init code: writes what differs from the native structures, op by op, and ``pv_info``."""
        natives, held = self.held("native"), self.held(backend)
        body: list[Body] = []
        for op in self.pv.template:
            points = held[op.name]
            if points != natives[op.name]:
                body += [x.movq(0 if points is None else addr(points), rax), x.movq(rax, mem(self.pv.pointer(op)))]
        offsets = type(self.pv.era.info).offsets(self.config)
        body += [x.movq(addr(name), rax), x.movq(rax, mem(addr("pv_info") + offsets["name"]))]
        body.append(x.movl(1, mem(addr("pv_info") + offsets["paravirt_enabled"])))
        return body

    # What hosts, sessions and reports ask of it

    @property
    def exit(self) -> int:
        return self.address("done")

    @cached_property
    def _bounds(self) -> tuple[int, int]:
        kernel = [(a, a + len(raw)) for name, (a, raw) in self.built.sections.items() if name != ".text.user"]
        return min(a for a, _ in kernel), max(b for _, b in kernel)

    def sites(self) -> Mapping[int, tuple[str, int]]:
        names = {op.type: op.name for op in self.pv.template}
        rows = self.kernel.paravirt.rows() if self.kernel.paravirt is not None else ()
        return {row[0]: (names[row[2]], row[3]) for row in rows}

    def alternatives(self) -> dict[int, int]:
        return {}
