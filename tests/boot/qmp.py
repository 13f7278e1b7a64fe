"""QEMU's monitor protocol, as much of it as stopping, saving and ending a machine takes."""

from __future__ import annotations

import json
import socket
import time
from typing import Any


class QmpError(RuntimeError):
    """QEMU refused a command, did not answer in time, or is gone."""


class Qmp:
    """One end of a connected socket whose other end QEMU was started with.

    A pair of sockets rather than a path: nothing to wait for, nothing to remove, no limit to a path's length.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._pending = b""

    def greet(self, seconds: float) -> None:
        """Waits for QEMU to introduce itself and leaves the negotiation."""
        deadline = time.monotonic() + seconds
        greeting = self._line(deadline, "its greeting")
        if "QMP" not in greeting:
            raise QmpError(f"not a greeting: {greeting}")
        self.run("qmp_capabilities", seconds=deadline - time.monotonic())

    def run(self, command: str, seconds: float = 30, **arguments: object) -> Any:
        """Runs a command and returns its result; events that come before it are passed over."""
        deadline = time.monotonic() + seconds
        try:
            self._socket.settimeout(max(0.01, seconds))
            self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise QmpError(f"{command}: QEMU takes no command: {error}") from error
        while True:
            answer = self._line(deadline, f"the answer to {command}")
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]

    def _line(self, deadline: float, what: str) -> dict[str, Any]:
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            try:
                self._socket.settimeout(max(0.01, left))
                more = self._socket.recv(1 << 16)
            except OSError as error:
                raise QmpError(f"QEMU did not give {what}: {error}") from error
            if not more:
                raise QmpError(f"QEMU ended before it gave {what}")
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found
