"""The remote protocol of QEMU's debugger stub, as much of it as making a function of the guest return takes."""

from __future__ import annotations

import re
import socket

#: Places of registers among those that ``g`` gives on x86-64, and their numbers.
RAX, RSP, RIP = 0, 7, 16

_PACKET = re.compile(rb"\$([^#]*)#[0-9a-f]{2}")


class GdbError(RuntimeError):
    """The stub refused a command."""


class GdbGone(Exception):
    """QEMU has closed the connection."""


class Gdb:
    """The client's end of a connected socket; every command is about the CPU that stopped last."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._pending = b""

    def greet(self) -> None:
        """The stub takes single registers only from a client that has read their description."""
        self._ask(b"qSupported:xmlRegisters=i386")
        self._ask(b"qXfer:features:read:target.xml:0,ffb")

    def breakpoint(self, address: int, there: bool = True) -> None:
        """Sets a breakpoint, or takes it away: a hardware one, for the guest's memory must not change."""
        self._do(b"%s1,%x,1" % (b"Z" if there else b"z", address))

    def run(self) -> None:
        """Lets the guest run until it stops, at a breakpoint or because the monitor says so."""
        self._ask(b"c")

    def registers(self) -> list[int]:
        """The general registers, `RSP` and `RIP` among them."""
        raw = bytes.fromhex(self._ask(b"g").decode())
        return [int.from_bytes(raw[at : at + 8], "little") for at in range(0, 8 * (RIP + 1), 8)]

    def set_register(self, number: int, value: int) -> None:
        """Sets one register."""
        self._do(b"P%x=%s" % (number, value.to_bytes(8, "little").hex().encode()))

    def memory(self, address: int, size: int) -> bytes:
        """Memory at a virtual address."""
        return bytes.fromhex(self._ask(b"m%x,%x" % (address, size)).decode())

    def leave(self, registers: list[int], value: int | None) -> None:
        """At a function's first instruction: returns from it at once, with a value or none."""
        if value is not None:
            self.set_register(RAX, value)
        caller = int.from_bytes(self.memory(registers[RSP], 8), "little")
        self.set_register(RSP, registers[RSP] + 8)
        self.set_register(RIP, caller)

    def _do(self, command: bytes) -> None:
        answer = self._ask(command)
        if answer != b"OK":
            raise GdbError(f"{command.decode()}: the debugger stub says {answer.decode()!r}")

    def _ask(self, command: bytes) -> bytes:
        try:
            self._socket.sendall(b"$%s#%02x" % (command, sum(command) & 0xFF))
            while not (found := _PACKET.search(self._pending)):
                more = self._socket.recv(1 << 16)
                if not more:
                    raise GdbGone
                self._pending += more
            self._pending = self._pending[found.end() :]
            self._socket.sendall(b"+")
        except OSError as error:
            raise GdbGone from error
        return found[1]
