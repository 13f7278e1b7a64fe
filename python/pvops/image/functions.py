"""What a function does, by its first instructions: for images that name none."""

from __future__ import annotations

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
#: ``ret``, ``mov %edi,%eax; ret`` and ``mov %rdi,%rax; ret`` of x86-64: _paravirt_nop, _paravirt_ident_32 and _64.
_DOES = {b"\xc3": "nop", b"\x89\xf8\xc3": "ident32", b"\x48\x89\xf8\xc3": "ident64"}
#: The same with a frame pointer, which compilers set up before or behind the move.
_FRAMED = {
    b"\x55\x48\x89\xe5\x5d\xc3": "nop",
    b"\x55\x89\xe5\x5d\xc3": "nop",
    b"\x55\x89\xf8\x48\x89\xe5\x5d\xc3": "ident32",
    b"\x55\x48\x89\xe5\x89\xf8\x5d\xc3": "ident32",
    b"\x55\x48\x89\xf8\x48\x89\xe5\x5d\xc3": "ident64",
    b"\x55\x48\x89\xe5\x48\x89\xf8\x5d\xc3": "ident64",
}
#: Functions of ops that do nothing, or return their argument.
NAMED = {
    "_paravirt_nop": "nop",
    "nop_func": "nop",
    "_paravirt_ident_32": "ident32",
    "_paravirt_ident_64": "ident64",
}
_RETURNS = (b"\xc3", b"\xe9")


def begins_with(view: KernelView, address: int, code: bytes) -> bool:
    """Whether a function's own instructions begin with some code, and it returns behind them, or by them."""
    held = _own(view, address)
    returns = code.endswith((b"\xcf", b"\x0f\x07", b"\x0f\x35"))  # iret, sysret, sysexit
    return held.startswith(code) and (returns or any(_left(held[len(code) :]).startswith(end) for end in _RETURNS))


def does(view: KernelView, address: int) -> str | None:
    """``nop``, ``ident32`` or ``ident64``, for a function that does nothing or returns its argument; else None.

    On i386 an argument is returned by doing nothing, and both look alike: ``nop``.
    """
    held = view.image.read(address, 16) or b""
    if held[:3] == b"\xf3\x0f\x1e":
        held = held[4:]
    # jmp __x86_return_thunk, where returns have rows; else a jump leads to another function.
    thunks = view.has_section(".return_sites")
    for code, what in (_DOES | _FRAMED).items():
        returns = (code, code[:-1] + b"\xe9") if thunks else code
        if held.startswith(returns) and (what == "nop" or view.bits == 64):
            return what
    return None


def _own(view: KernelView, address: int) -> bytes:
    held = view.image.read(address, 48) or b""
    stripped = True
    while stripped:
        stripped = False
        for code, length in _BEFORE:
            if held.startswith(code):
                held, stripped = held[length:], True
    return held


def _left(code: bytes) -> bytes:
    """Code without the ``pop %rbp`` of a frame."""
    return code[1:] if code[:1] == b"\x5d" else code
