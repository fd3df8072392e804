"""The control socket of a board: one JSON object a line, one answer a line.

{"do": "status"}                        what is open on each node, and the kernel's complaints
{"do": "log"}                           requests since the last `faults`, with their results
{"do": "faults", "rules": [...]}        new rules (faults.py); forgets complaints and log
"""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

from teflon.board.server import Server, bound
from teflon.errors import OptionError

NAME = "control"


def start(server: Server, root: Path) -> None:
    """Serve the control socket of a board's folder. Raises OSError."""
    listener = bound(root, NAME, socket.SOCK_STREAM)

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rw", errors="replace") as lines:
            for line in lines:
                lines.write(json.dumps(_answer(server, line)) + "\n")
                lines.flush()

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def _answer(server: Server, line: str) -> Any:
    """Carry out a line, and return the answer."""
    try:
        order = json.loads(line)
        what = order["do"]
        if what == "log":
            return list(server.faults.log)
        if what == "faults":
            server.faults.set(order["rules"])
            for served in server.nodes:
                served.node.kernel.complaints.clear()
        elif what != "status":
            raise OptionError(f"control: do is {what!r}, must be status, log or faults")
    except OptionError as error:
        return {"error": str(error)}
    except Exception:  # whatever a line has, it gets an answer
        return {"error": "control: a line must be an object with do and, for faults, rules: texts"}
    return {served.path: served.status() for served in server.nodes}


class Control:
    """A client of the control socket."""

    def __init__(self, root: Path) -> None:
        """Raises OSError where no board serves the folder."""
        self._socket = socket.socket(socket.AF_UNIX)
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY)  # its path may be long
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{NAME}")
        except OSError:
            self._socket.close()
            raise
        finally:
            os.close(folder)
        self._lines = self._socket.makefile("rw")

    def obey(self, what: str, **order: Any) -> Any:
        """Send an order and return the answer. Raises OptionError for a bad order."""
        self._lines.write(json.dumps({"do": what, **order}) + "\n")
        self._lines.flush()
        answer = json.loads(self._lines.readline())
        if isinstance(answer, dict) and set(answer) == {"error"}:
            raise OptionError(answer["error"])
        return answer

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
