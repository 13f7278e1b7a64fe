"""Unicorn, loaded when a guest runs; without it the command says what to install."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Protocol

from pvops.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops._core import BlockCounter


class Uc(Protocol):
    """The part of ``unicorn.Uc`` that is used here, which has no types of its own."""

    def mem_map(self, address: int, size: int, perms: int = 7) -> None: ...
    def mem_map_ptr(self, address: int, size: int, perms: int, ptr: int) -> None: ...
    def mem_read(self, address: int, size: int) -> bytearray: ...
    def mem_write(self, address: int, data: bytes) -> None: ...
    def reg_read(self, register: int) -> int: ...
    def reg_write(self, register: int, value: object) -> None: ...
    def reg_read_batch(self, registers: Sequence[int]) -> tuple[int, ...]: ...
    def reg_write_batch(self, values: Sequence[tuple[int, int]]) -> None: ...
    def msr_read(self, msr: int) -> int: ...
    def msr_write(self, msr: int, value: int) -> None: ...
    def context_save(self) -> object: ...
    def context_restore(self, context: object) -> None: ...
    def ctl_set_tlb_mode(self, mode: int) -> None: ...
    def ctl_remove_cache(self, begin: int, end: int) -> None: ...
    def emu_start(self, begin: int, until: int, timeout: int = 0, count: int = 0) -> None: ...
    def emu_stop(self) -> None: ...
    def hook_del(self, hook: int) -> None: ...
    def hook_add(
        self,
        kind: int,
        callback: Callable[..., object],
        user_data: object = None,
        begin: int = 1,
        end: int = 0,
        instruction: int = 0,
    ) -> int: ...


#: What to install for guests to run.
NEEDED = "running guests needs Unicorn: the extra `run`"

_REGISTERS = (
    *("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "eip", "eflags", "cs", "ds", "es", "fs", "ss"),
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip", "rflags", "gs", "fs_base", "gs_base"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("cr0", "cr2", "cr3", "cr4", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7", "gdtr", "idtr", "ldtr", "tr"),
)


def unicorn(bits: int = 32) -> tuple[ModuleType, dict[str, int], Uc]:
    """The library, its numbers of registers and hooked instructions by name, and a new CPU.

    Raises:
        RunError: it is not installed.
    """
    library, numbers = _loaded()
    mode = library.UC_MODE_64 if bits == 64 else library.UC_MODE_32
    return library, numbers, library.Uc(library.UC_ARCH_X86, mode)


def hook_blocks(uc: Uc, counter: BlockCounter) -> None:
    """Has the core count the blocks that a CPU enters; the counter has to live as long as the CPU.

    The library's own `hook_add` takes what Python can call, and nothing else.
    """
    import ctypes
    from importlib import import_module

    library, _ = _loaded()
    binding = import_module("unicorn.unicorn_py3.unicorn")
    status = binding.uclib.uc_hook_add(
        getattr(uc, "_uch"),  # noqa: B009  # the engine, which the library hands to its own functions
        ctypes.byref(ctypes.c_size_t()),
        library.UC_HOOK_BLOCK,
        ctypes.c_void_p(counter.hook),
        ctypes.c_void_p(counter.data),
        ctypes.c_uint64(1),
        ctypes.c_uint64(0),
    )
    if status:
        raise RunError(f"the emulator does not count blocks: {library.UcError(status)}")


@cache
def _loaded() -> tuple[ModuleType, dict[str, int]]:
    try:
        import unicorn as library
        from unicorn import x86_const
    except ImportError:
        raise RunError(NEEDED) from None
    numbers = {name: getattr(x86_const, f"UC_X86_REG_{name.upper()}") for name in _REGISTERS}
    numbers |= {
        name: getattr(x86_const, f"UC_X86_INS_{name.upper()}") for name in ("in", "out", "cpuid", "syscall", "sysenter")
    }
    return library, numbers
