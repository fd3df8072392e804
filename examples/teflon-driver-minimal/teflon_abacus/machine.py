"""The simulated ABACUS: a memory, and commands that change it. It knows nothing of graphs.

`python -m teflon_abacus.machine PATH` serves a chip as a device node: a Unix socket, which stands
for the kernel driver. A request is (kind, address, size, base); an answer is bytes.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.errors import DeviceError, SimulatorFault
from teflon_abacus.isa import ABACUS1, STEP, WORDS, Command, Opcode

REQUEST = struct.Struct("<cqqq")  # kind (w, r, x), address, size, base
MEMORY = ABACUS1.memory
Array = npt.NDArray[Any]


class Machine:
    """A chip in this process."""

    def __init__(self) -> None:
        self._memory = np.zeros(MEMORY, np.uint8)
        self._lock = threading.Lock()

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into device memory."""
        self._at(address, len(data), "write")[:] = np.frombuffer(data, np.uint8)

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of device memory."""
        return self._at(address, size, "read").tobytes()

    def run(self, base: int, address: int, size: int) -> None:
        """Execute a list of commands. Raises SimulatorFault for an unknown opcode."""
        with self._lock:
            for words in WORDS.iter_unpack(self.read(address, size)):
                command = Command(*words)
                if command.opcode == Opcode.CONV:
                    self._convolve(base, command)
                elif command.opcode == Opcode.ADD:
                    self._add(base, command)
                else:
                    raise SimulatorFault(f"abacus: opcode is {command.opcode}, must be 1 or 2")

    def close(self) -> None:
        """Do nothing: the memory is freed with this object."""

    def _at(self, address: int, size: int, what: str) -> npt.NDArray[np.uint8]:
        if address < 0 or size < 0 or address + size > MEMORY:
            raise SimulatorFault(f"abacus: {what} at {address:#x}+{size}, must be in {MEMORY:#x}")
        found: npt.NDArray[np.uint8] = self._memory[address : address + size]
        return found

    def _array(self, address: int, shape: tuple[int, ...], dtype: Any, what: str) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        found: Array = self._at(address, size, what).view(dtype).reshape(shape)
        return found

    def _convolve(self, base: int, c: Command) -> None:
        kind = np.int8 if c.signed else np.uint8
        shape = (c.images, c.height, c.width, c.channels)
        taps = c.kernel_height * c.kernel_width * c.channels
        image = self._array(base + c.source, shape, kind, "input").astype(np.int64) - c.zero_a
        rows = (c.out_height - 1) * c.stride_y + c.kernel_height
        columns = (c.out_width - 1) * c.stride_x + c.kernel_width
        field = np.zeros((c.images, rows, columns, c.channels), np.int64)
        below, right = min(c.height, rows - c.pad_top), min(c.width, columns - c.pad_left)
        inside = (slice(None), slice(c.pad_top, c.pad_top + below),
                  slice(c.pad_left, c.pad_left + right))  # fmt: skip
        field[inside] = image[:, :below, :right]
        patches = np.lib.stride_tricks.sliding_window_view(
            field, (c.kernel_height, c.kernel_width), (1, 2)
        )[:, :: c.stride_y, :: c.stride_x]
        columns_of = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, taps).astype(np.float64)
        weights = self._array(base + c.weights, (c.out_channels, taps), kind, "weights")
        sums = columns_of @ (weights.astype(np.float64) - c.zero_b).T  # exact: far below 2^53
        bias = self._array(base + c.bias, (c.out_channels,), np.int32, "bias")
        table = self._array(base + c.table, (c.out_channels, 2), np.int32, "table").astype(np.int64)
        total = (sums.astype(np.int64) + bias) * table[:, 0]
        half = np.int64(1) << (table[:, 1] - 1)
        self._store(base, c, (total + half) >> table[:, 1], kind)

    def _add(self, base: int, c: Command) -> None:
        kind = np.int8 if c.signed else np.uint8
        shape = (c.images, c.height, c.width, c.channels)
        a = self._array(base + c.source, shape, kind, "operand").astype(np.int64) - c.zero_a
        b = self._array(base + c.weights, shape, kind, "operand").astype(np.int64) - c.zero_b
        table = self._array(base + c.table, (2,), np.int32, "table").astype(np.int64)
        total = a * table[0] + b * table[1] + (1 << (STEP - 1))
        self._store(base, c, total >> STEP, kind)

    def _store(self, base: int, c: Command, values: Array, kind: Any) -> None:
        low, high = struct.unpack("<hh", struct.pack("<i", c.clamp))
        done = np.clip(values + c.zero_out, low, high).astype(kind).ravel()
        self._array(base + c.target, done.shape, kind, "result")[:] = done


class Node:
    """A chip behind a device node: the same three requests, sent over the socket."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._path = path
        self._lock = threading.Lock()

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into device memory."""
        self._ask(b"w", address, len(data), 0, data)

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of device memory."""
        return self._ask(b"r", address, size, 0)

    def run(self, base: int, address: int, size: int) -> None:
        """Execute a list of commands."""
        self._ask(b"x", address, size, base)

    def close(self) -> None:
        """Close the node."""
        self._socket.close()

    def _ask(self, kind: bytes, address: int, size: int, base: int, data: bytes = b"") -> bytes:
        with self._lock:
            try:
                self._socket.sendall(REQUEST.pack(kind, address, size, base) + data)
                (length,) = struct.unpack("<q", receive(self._socket, 8))
                answer = receive(self._socket, abs(length))
            except OSError as error:
                raise DeviceError(f"{self._path}: the device does not answer: {error}") from error
        if length < 0:
            raise DeviceError(f"{self._path}: {answer.decode()}")
        return answer


def receive(connection: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes. Raises OSError when the other side has closed the socket."""
    found = bytearray()
    while len(found) < size:
        more = connection.recv(min(size - len(found), 1 << 20))
        if not more:
            raise OSError("the connection was closed")
        found += more
    return bytes(found)


def serve(path: str) -> None:
    """Serve a chip as a device node until the process ends."""
    machine = Machine()
    door = socket.socket(socket.AF_UNIX)
    waiting = f"{path}.new"
    door.bind(waiting)
    door.listen()
    os.rename(waiting, path)  # from now on a client that sees the node can open it
    while True:
        connection, _ = door.accept()
        threading.Thread(target=_answer, args=(machine, connection), daemon=True).start()


def _answer(machine: Machine, connection: socket.socket) -> None:
    with connection:
        while True:
            try:
                kind, address, size, base = REQUEST.unpack(receive(connection, REQUEST.size))
                data = receive(connection, size) if kind == b"w" else b""
            except OSError:
                return
            connection.sendall(_framed(machine, kind, address, size, base, data))


def _framed(
    machine: Machine, kind: bytes, address: int, size: int, base: int, data: bytes
) -> bytes:
    answer = b""
    try:
        if kind == b"w":
            machine.write(address, data)
        elif kind == b"r":
            answer = machine.read(address, size)
        else:
            machine.run(base, address, size)
    except SimulatorFault as fault:
        text = str(fault).encode()
        return struct.pack("<q", -len(text)) + text
    return struct.pack("<q", len(answer)) + answer


if __name__ == "__main__":
    serve(sys.argv[1])
