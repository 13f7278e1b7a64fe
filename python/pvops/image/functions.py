"""What a function does, by its first instructions: for images that name none."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView

#: What may stand before a function's first own instruction: endbr64 and endbr32, the call or nop of ftrace, and the
#: frame pointer's ``push; mov``, by how they begin, with their lengths.
_BEFORE = (
    (b"\xf3\x0f\x1e", 4),
    (b"\xe8", 5),
    (b"\x0f\x1f\x44\x00\x00", 5),
    (b"\x55\x48\x89\xe5", 4),
    (b"\x55\x89\xe5", 3),
)
#: ``ret``, ``mov %edi,%eax; ret`` and ``mov %rdi,%rax; ret`` of x86-64: _paravirt_nop, _paravirt_ident_32 and _64. gcc
#: up to 8 writes ``repz ret`` where a function is nothing else (x86 tuned for all models).
_DOES = {b"\xc3": "nop", b"\xf3\xc3": "nop", b"\x89\xf8\xc3": "ident32", b"\x48\x89\xf8\xc3": "ident64"}
#: The same with a frame pointer, which compilers set up before or behind the move.
_FRAMED = {
    b"\x55\x48\x89\xe5\x5d\xc3": "nop",
    b"\x55\x89\xe5\x5d\xc3": "nop",
    b"\x55\x89\xf8\x48\x89\xe5\x5d\xc3": "ident32",
    b"\x55\x48\x89\xe5\x89\xf8\x5d\xc3": "ident32",
    b"\x55\x48\x89\xf8\x48\x89\xe5\x5d\xc3": "ident64",
    b"\x55\x48\x89\xe5\x48\x89\xf8\x5d\xc3": "ident64",
    # gcc 4.4 ends a frame by ``leave``, before the move; gcc 4.6 saves %edi, which half of the argument goes through.
    b"\x55\x48\x89\xe5\xc9\xc3": "nop",
    b"\x55\x89\xe5\xc9\xc3": "nop",
    b"\x55\x89\xe5\x57\x5f\x5d\xc3": "nop",
    b"\x55\x48\x89\xe5\xc9\x89\xf8\xc3": "ident32",
    b"\x55\x48\x89\xe5\xc9\x48\x89\xf8\xc3": "ident64",
}
#: Functions of ops that do nothing, or return their argument.
NAMED = {
    "_paravirt_nop": "nop",
    "nop_func": "nop",
    "_paravirt_ident_32": "ident32",
    "_paravirt_ident_64": "ident64",
}
_RETURNS = (b"\xc3", b"\xf3\xc3", b"\xe9")
_FRAMES = (b"\x55\x48\x89\xe5", b"\x55\x89\xe5")
_ENDBR = b"\xf3\x0f\x1e"
#: What PV_CALLEE_SAVE_REGS_THUNK() begins with: a frame, and pushes of the registers that the function may change.
_SAVES = rb"(?:\xf3\x0f\x1e[\xfa\xfb])?(?:\x48?\x89\xe5|\x41?[\x50-\x57])*\xe8(....)"


def begins_with(view: KernelView, address: int, code: bytes) -> bool:
    """Whether a function's own instructions begin with some code, and it returns behind them, or by them."""
    held = _own(view, address)
    if view.bits == 32 and held.startswith(b"\x57" + code + b"\x5f"):
        held = code + held[len(code) + 2 :]  # gcc 4.6 saves %edi, and restores it
    returns = code.endswith((b"\xcf", b"\x0f\x07", b"\x0f\x35"))  # iret, sysret, sysexit
    return held.startswith(code) and (returns or any(_left(held[len(code) :]).startswith(end) for end in _RETURNS))


def does(view: KernelView, address: int) -> str | None:
    """``nop``, ``ident32`` or ``ident64``, for a function that does nothing or returns its argument; else None.

    On i386 an argument is returned by doing nothing, and both look alike: ``nop``.
    """
    held = _untraced(view, address)
    # jmp __x86_return_thunk, where returns have rows; else a jump leads to another function.
    thunks = view.has_section(".return_sites")
    for code, what in (_DOES | _FRAMED).items():
        returns = (code, code[:-1] + b"\xe9") if thunks else code
        if held.startswith(returns) and (what == "nop" or view.bits == 64):
            return what
    return None


def behind_thunk(view: KernelView, address: int) -> int | None:
    """The function that a thunk of a callee-save op calls; None where that is no such thunk."""
    held = re.match(_SAVES, _read(view, address, 48), re.DOTALL)
    return None if held is None else _called(view, address + held.end(), held[1])


def _called(view: KernelView, end: int, displacement: bytes) -> int:
    return end + int.from_bytes(displacement, "little", signed=True) & (1 << view.bits) - 1


def _untraced(view: KernelView, address: int) -> bytes:
    """The first bytes of a function, behind its endbr, and without a call of its tracer, which returns at once."""
    held = _read(view, address, 24)
    if held[:3] == _ENDBR:
        address, held = address + 4, held[4:]
    # ``mcount`` is called behind the frame's ``push; mov``, ``__fentry__`` before.
    at = next((len(frame) for frame in _FRAMES if held.startswith(frame)), 0)
    frame, call, rest = held[:at], held[at : at + 5], held[at + 5 :]
    if call == b"\x0f\x1f\x44\x00\x00":
        return frame + rest
    if call[:1] != b"\xe8" or len(call) < 5:
        return held
    tracer = _read(view, _called(view, address + at + 5, call[1:]), 8)
    tracer = tracer[4:] if tracer[:3] == _ENDBR else tracer
    return frame + rest if tracer.startswith(_RETURNS) else held


def _own(view: KernelView, address: int) -> bytes:
    held = _read(view, address, 48)
    stripped = True
    while stripped:
        stripped = False
        for code, length in _BEFORE:
            if held.startswith(code):
                held, stripped = held[length:], True
    return held


def _read(view: KernelView, address: int, most: int) -> bytes:
    """A function's first bytes: fewer where its section ends, as those of a function with a section of its own do."""
    sizes = range(most, 0, -1)
    return next((held for size in sizes if (held := view.image.read(address, size)) is not None), b"")


def _left(code: bytes) -> bytes:
    """Code without the ``pop %rbp`` or ``leave`` of a frame."""
    return code[1:] if code[:1] in (b"\x5d", b"\xc9") else code
