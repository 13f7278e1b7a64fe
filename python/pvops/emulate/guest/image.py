"""A guest image: one kernel with the code of every backend in it, as distributions ship it, and the program it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pvops import eras as ops
from pvops.assembler import Built, Image, Value, addr, align, asciz, function, label, mem, space, u32
from pvops.assembler.statements import Body
from pvops.assembler.x86 import jmp, movl
from pvops.emulate.guest import drivers, native
from pvops.emulate.guest.backends import GuestBackend, of_era
from pvops.emulate.guest.built import BuiltGuest
from pvops.emulate.guest.compile import RESULTS, Compiler
from pvops.emulate.guest.layout import ENTRIES, MMS, STACK_SIZE, TLS_ARRAY, USER, Build, tables
from pvops.emulate.macros.paravirt import Paravirt
from pvops.errors import RunError, there_are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.program import Program
    from pvops.eras.structs import Config, OpsStruct

ERAS = ("seed", "2.6.33")

#: KiB of memory that the boot loader says there are.
MEMORY = 0x20000


class GuestImage(BuiltGuest):
    """A program built for an era.

    Args:
        program: what it does.
        era: ``seed`` or ``2.6.33``.
        without: classes configured out, ``PARAVIRT_IRQ``, ….
        length: the least length of a site in bytes: padding.
        extra: further functions, name → instructions.
        backends: further backends, besides those of the era.

    Raises:
        RunError: no such era, or a program that cannot be built.
    """

    def __init__(
        self,
        program: Program,
        era: str = "seed",
        *,
        without: Iterable[str] = (),
        length: int = 0,
        extra: Mapping[str, Body] | None = None,
        backends: Iterable[GuestBackend] = (),
    ) -> None:
        if era not in ERAS:
            raise RunError(f"no guests of era {era}{there_are(era, ERAS)}")
        self.program = program
        self.name = program.name
        self.era = era
        # Xen on i386 needs PAE in 2.6.33, and lguest's guests must not have it before.
        self.pae = era == "2.6.33"
        options = {"X86_PAE": self.pae} | dict.fromkeys(without, False)
        if era == "2.6.33":
            options["PARAVIRT_SPINLOCKS"] = True
        self.config: Config = ops.era(era).default_config(32, **options)
        self.build = Build(era, self.config)
        self.backends = (*of_era(era), *backends)
        self.pv = Paravirt(era, self.config, length=length)
        compiler = Compiler(self.build, self.pv)
        self.built = self._assemble(compiler, dict(extra or {}))
        #: Address of each call of an op that has no site → the op.
        self.plain = {self.built.symbols[at]: op for at, op in compiler.plain.items()}
        self.symbols = self.built.symbols

    # Building

    def _assemble(self, compiler: Compiler, extra: Mapping[str, Body]) -> Built:
        image = Image(32)
        own = native.functions(self.build)
        tables(image, self.build)
        self.pv.kernel(image, defined=own)
        image.text(*(function(name, *body) for name, body in own.items()))
        image.text(compiler.program(self.program))
        image.text(drivers.functions())
        image.text(function("startup_native", jmp("start_kernel")))
        for backend in self.backends:
            image.text(backend.functions(self.build))
            image.text(backend.start(self.build, self.fill(backend.structs(self), backend.info(self))))
            image.data(backend.data(self.build))
        image.text(*(function(name, body) for name, body in extra.items()))
        image.section(".text.entry", address=ENTRIES, flags=4)(
            *(
                (align(16), label(f"entry_{vector}"), jmp("page_fault") if vector == 14 else jmp("bad_trap"))
                for vector in range(32)
            )
        )
        image.text(function("bad_trap", jmp("bad_trap")))
        image.data(*self._variables())
        return image.build("startup_native")

    def _variables(self) -> Iterable[Body]:
        """What the kernel and the program keep."""
        words = {"lazy_sections": 1, "paravirt_lazy_mode": 0, "boot_params": MEMORY, "e820_map": 0, "result_count": 0}
        words |= {"counter": 0, "spinlock": 1 if self.era == "seed" else 0}
        words |= {f"touched{n}": USER[n] for n in range(MMS)}
        yield align(16)
        for name, value in words.items():
            yield label(name), u32(value)
        yield label("current_mm"), u32(addr("mm0")), label("current_pt"), u32(addr("mm0_pt"))
        for n in range(MMS):
            yield label(f"mm{n}"), u32(addr(f"mm{n}_pgd"))
            # A thread: its stack, then its TLS descriptors.
            yield label(f"thread{n}"), u32(Value("kernel_stack", STACK_SIZE - 0x400 * (n + 1))), space(TLS_ARRAY - 4)
            yield (u32(0x100 * n + i, 0x00CFF200 + n) for i in range(3))
        yield label("results"), space(4 * RESULTS)
        yield drivers.variables()
        yield align(0x1000), label("apic_page"), space(0x1000)
        yield label("bios_e820"), asciz("BIOS-e820")
        yield label("scratch"), space(64), label("descriptor"), space(8)

    def fill(self, structs: Iterable[OpsStruct], info: Mapping[str, int | str]) -> Body:
        """Init code: writes what differs from the native structures, op by op, and ``pv_info``."""
        filled = {type(struct).__name__: struct for struct in structs}
        natives = self.pv.era.patch_template(self.config).pointers()
        body: list[Body] = []
        for op in self.pv.template:
            held = filled[op.struct][op.field]
            if held != natives[op.name]:
                body.append(movl(0 if held is None else _function(held), mem(self.pv.pointer(op))))
        for member, offset in type(self.pv.era.info).offsets(self.config).items():
            if member in info:
                value = info[member]
                body.append(movl(addr(value) if isinstance(value, str) else value, mem(addr("pv_info") + offset)))
        return body


def _function(name: str) -> Value:
    """What a slot holds: a function, or a place in one (``hypercall_page+0x2e0``)."""
    symbol, plus, offset = name.partition("+")
    return addr(symbol) + (int(offset, 16) if plus else 0)
