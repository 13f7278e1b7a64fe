"""A debugger stub, as QEMU's: gdb's remote protocol for a stopped machine of which memory is all there is."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

_PACKET = re.compile(rb"\$([^#]*)#[0-9a-f]{2}")
#: What ``g`` gives of x86-64 where no register is known: 16 of 8 bytes, rip, eflags and 6 segments of 4, and the FPU's.
_NO_REGISTERS = b"x" * 2 * (17 * 8 + 7 * 4 + 8 * 10 + 8 * 4 + 16 * 16 + 4)


class GdbServer:
    """Serves one debugger while the ``with`` block runs.

    Args:
        read: memory by virtual address; raises `LookupError` where there is none.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listening.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _serve(self) -> None:
        try:
            connected, _ = self._listening.accept()
        except OSError:  # nobody came
            return
        with connected:
            pending = b""
            while data := connected.recv(4096):
                pending += data
                while found := _PACKET.search(pending):
                    pending = pending[found.end() :]
                    answer = self._answer(found[1])
                    connected.sendall(b"+$%s#%02x" % (answer, sum(answer) & 0xFF))

    def _answer(self, asked: bytes) -> bytes:
        if asked == b"?":
            return b"S05"
        if asked == b"g":
            return _NO_REGISTERS
        if found := re.fullmatch(rb"m([0-9a-f]+),([0-9a-f]+)", asked):
            try:
                return self._read(int(found[1], 16), int(found[2], 16)).hex().encode()
            except LookupError:
                return b"E14"
        return b"OK" if asked[:1] in (b"H", b"D") else b""
