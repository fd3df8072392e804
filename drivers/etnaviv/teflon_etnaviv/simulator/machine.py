"""The simulated NPU: walks command streams, launches NN and TP instructions.

Ref: docs/hardware/etnaviv.md sections 2.4 to 2.6 and 8.1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from teflon import trace
from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_etnaviv import states
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_etnaviv.effort import Effort, of_nn, of_tp
from teflon_etnaviv.rates import Model
from teflon_etnaviv.simulator import nn, tp
from teflon_etnaviv.simulator.launch_cache import LaunchCache, Scratch
from teflon_etnaviv.states import GL, PS
from teflon_etnaviv.uapi import SUBMIT_BO_READ, SUBMIT_BO_WRITE

_LOW_BITS = 0x1F
_KNOWN_CONFIG = {
    GL.NN_CONFIG.offset: GL.NN_CONFIG(SMALL_BATCH=True).pack(),
    GL.OCB_REMAP_START.offset: 0,
    GL.OCB_REMAP_END.offset: 0,
    GL.TP_CONFIG.offset: 0,
    PS.UNK10A4.offset: 0,
}
"""The only value that is understood of some states."""
_NEEDED = {
    PS.NN_INST_ADDR.offset: (GL.NN_CONFIG, GL.OCB_REMAP_START, GL.OCB_REMAP_END),
    PS.TP_INST_ADDR.offset: (GL.TP_CONFIG, GL.UNK03950, GL.OCB_REMAP_START, GL.OCB_REMAP_END),
}
"""The states that a stream must set before a launch."""


_STREAMS_KEPT = 64
_EFFORTS_KEPT = 4096


class Shared:
    """What the submits of an open file have in common."""

    def __init__(self) -> None:
        self.nn = LaunchCache[nn.Launch]()
        self.tp = LaunchCache[tp.Launch]()
        self.scratch = Scratch()
        self.streams: dict[bytes, tuple[states.Write, ...]] = {}
        self.efforts: dict[bytes, Effort] = {}

    def effort(self, raw: bytes, of: Callable[[], Effort]) -> Effort:
        """Return the effort of an instruction; of: works it out, the first time."""
        found = self.efforts.get(raw)
        if found is None:
            if len(self.efforts) >= _EFFORTS_KEPT:
                self.efforts.clear()
            found = self.efforts[raw] = of()
        return found

    def keep(self, stream: bytes, launches: tuple[states.Write, ...]) -> None:
        """Remember what a stream starts, once all of its words are checked."""
        while len(self.streams) >= _STREAMS_KEPT and stream not in self.streams:
            del self.streams[next(iter(self.streams))]
        self.streams[stream] = launches


@dataclass
class Machine:
    """One NPU. `memory` holds the buffers of the submit that runs, and nothing else.

    `done` has the effort of each instruction that was started, if there is a `model` of the chip.
    """

    chip: Chip
    memory: DeviceMemory
    launches: int = 0
    titles: tuple[str, ...] = ()  # names of the launches in a trace
    track: int = 0
    shared: Shared = field(default_factory=Shared)
    model: Model | None = None
    done: list[Effort] = field(default_factory=list)
    _state: dict[int, int] = field(default_factory=dict)
    _group: list[tp.Touched] = field(default_factory=list)  # jobs running beside the next one
    _flags: Mapping[int, int] = field(default_factory=dict)

    def run_stream(self, stream: bytes, flags: Mapping[int, int], where: str = "submit") -> None:
        """Execute a command stream.

        flags: device address of each buffer of the submit -> SUBMIT_BO_READ | SUBMIT_BO_WRITE.
        Raises SimulatorFault for anything undefined, naming the launch and the state.
        """
        self._state, self._group, self._flags = {}, [], flags
        known = self.shared.streams.get(stream)
        launches: list[states.Write] = []
        for write in self._launches(stream, where) if known is None else known:
            launch = len(launches)
            launches.append(write)
            title = self.titles[launch] if launch < len(self.titles) else f"launch {launch}"
            with trace.span(title, self.track, launch=launch):
                self._launch(write, f"{where} launch {launch}")
        if self._group:
            raise SimulatorFault(f"{where}: ends inside a group of jobs that run together")
        self.shared.keep(stream, tuple(launches))

    def _launches(self, stream: bytes, where: str) -> Iterator[states.Write]:
        """Yield the writes that start something; every write up to there was checked."""
        words = np.frombuffer(stream, "<u4").tolist()
        launch = 0
        for write in states.decode(words):
            if isinstance(write, states.BadWord):
                raise SimulatorFault(
                    f"{where}: word #{write.word:08x} at {write.offset:#x} is not a known command"
                )
            self._check_state(write, where)
            self._state[write.address] = write.value
            for register in _NEEDED.get(write.address, ()):
                if register.offset not in self._state:
                    raise SimulatorFault(
                        f"{where} launch {launch}: {register.title()} must be set before"
                    )
            if write.address in _NEEDED:
                launch += 1
                yield write

    def _check_state(self, write: states.Write, where: str) -> None:
        register = states.find(write.address)
        if register is None:
            raise SimulatorFault(f"{where}: state #{write.address:04x} is not known")
        value = register.unpack(write.value)
        if value.rest:
            raise SimulatorFault(f"{where}: {value}, must have no bits beyond its fields")
        known = _KNOWN_CONFIG.get(write.address, write.value)
        if write.value != known:
            raise SimulatorFault(
                f"{where}: {value}, must be #{known:08x} (no other value is understood)"
            )

    def _launch(self, write: states.Write, where: str) -> None:
        address, low = write.value & ~_LOW_BITS, write.value & _LOW_BITS
        is_nn = write.address == PS.NN_INST_ADDR.offset
        kind = NNInstruction if is_nn else TPInstruction
        where = f"{where} ({'NN' if is_nn else 'TP'})"
        raw = self.memory.view(address, 4 * kind.words, f"{where}: instruction")
        self._allowed(address, SUBMIT_BO_READ, f"{where}: instruction")
        self.launches += 1
        if is_nn:
            if low or self._group:
                raise SimulatorFault(f"{where}: runs beside other jobs, must run alone")
            self._run_nn(raw.tobytes(), where)
        else:
            self._run_tp(raw.tobytes(), low, where)

    def _allowed(self, address: int, flag: int, what: str) -> None:
        """Raise SimulatorFault where the submit does not list this use of a buffer."""
        found = self.memory.find(address)
        if found is None:
            return  # the access itself faults, with more to say
        if not self._flags.get(found.address, 0) & flag:
            use = "read" if flag == SUBMIT_BO_READ else "written"
            raise SimulatorFault(f"{what}: {found} is {use}, must be listed for that in the submit")

    def _run_nn(self, raw: bytes, where: str) -> None:
        launch = self.shared.nn.get(raw)
        i = launch.i if launch else NNInstruction.from_bytes(raw)
        self._allowed(i.kernel_address << 6, SUBMIT_BO_READ, f"{where}: coefficients")
        self._allowed(i.in_image_address, SUBMIT_BO_READ, f"{where}: input")
        self._allowed(i.out_image_address, SUBMIT_BO_WRITE, f"{where}: output")
        if launch is None or not launch.holds(self.memory):
            launch = nn.ready(i, self.chip, self.memory, where)
            self.shared.nn.put(raw, launch)
        if (model := self.model) is not None:
            self.done.append(self.shared.effort(raw, lambda: of_nn(i, launch.stored[0], model)))
        launch.run(self.memory, self.shared.scratch, where)

    def _run_tp(self, raw: bytes, low: int, where: str) -> None:
        launch = self.shared.tp.get(raw)
        i = launch.i if launch else TPInstruction.from_bytes(raw)
        if low not in (0, 1) or low != i.no_flush:
            raise SimulatorFault(
                f"{where}: low bits are {low} and no_flush is {i.no_flush}, must both be 1 for"
                " jobs that run beside the next one, else 0"
            )
        self._allowed(i.in_image_base_address, SUBMIT_BO_READ, f"{where}: input")
        self._allowed(i.out_image_base_address, SUBMIT_BO_WRITE, f"{where}: output")
        if i.alu_pwl_enable:
            self._allowed(i.alu_load_pwl_lut_address, SUBMIT_BO_READ, f"{where}: lookup table")
        if launch is None or not launch.holds(self.chip, self.memory, where):
            launch = tp.ready(i, self.chip, self.memory, where)
            self.shared.tp.put(raw, launch)
        if (model := self.model) is not None and launch.job is not None:
            self.done.append(self.shared.effort(raw, lambda: of_tp(i, model)))
        touched = launch.run(self.memory, where)
        for other in self._group:
            for read, written in ((touched.read, other.written), (other.read, touched.written)):
                if read[0] < written[1] and written[0] < read[1]:
                    raise SimulatorFault(
                        f"{where}: #{read[0]:08x}..#{read[1]:08x} is read and"
                        f" #{written[0]:08x}..#{written[1]:08x} written by jobs that run together"
                    )
        self._group = [*self._group, touched] if low else []
