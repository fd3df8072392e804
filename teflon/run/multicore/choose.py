"""Choosing the stages of a partition, and the parts of each stage, by a model of time.

The model is coarse: it assumes that the driver's costs of the whole program are proportional to the
rows that a core computes. The chosen stages are then compiled, and the driver estimates their real
programs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Add
from teflon.pipe import HOST, MEMORY, Cost, Device
from teflon.run.multicore.parts import Channels, Rows, channel_values, row_spans
from teflon.run.multicore.rows import HEIGHT, Links, Span, Window, links
from teflon.run.multicore.timing import Assumptions, Effort, duration

_MOST_CUTS = 28
"""Places at which stages may begin: those with the smallest tensors, spread over the time."""
_ATOM = 16
"""Channels that a conversion handles together."""
_GROUP = 32
"""Channels of results that the array computes together: slices are multiples of it."""
_MOST_SLICED = 4
"""The largest number of operations in a stage that is cut into channels."""
_WASTE = 0.9
"""Share of the stage's work from which a part is too large to be worth a core."""
_STEPS = 12
"""Attempts to move the borders between parts."""


@dataclass(frozen=True)
class Choice:
    """A stage: operations `first` to before `last` of a partition; `cut` None: on one core."""

    first: int
    last: int
    cut: Rows | Channels | None = None


@dataclass(frozen=True)
class Work:
    """Milliseconds of an operation on one core: of the array, and of memory for feature maps and
    for coefficients.
    """

    array: float = 0.0
    features: float = 0.0
    coefficients: float = 0.0

    @property
    def total(self) -> float:
        return self.array + self.features + self.coefficients


Option = tuple[float, Choice]
"""A stage and its milliseconds."""


def choose(
    graph: Graph, costs: Iterable[Cost], cores: int, assumptions: Assumptions,
    device: Device | None = None,
) -> list[Choice]:  # fmt: skip
    """Return the fastest stages of a partition, by its costs on one core.

    It is one stage on one core if several cores are not faster. device: it says what must stay
    whole; None: nothing.
    """
    search = _Search(graph, _works(graph, costs), cores, assumptions, device)
    cuts = search.places()
    best: dict[int, tuple[float, list[Choice]]] = {0: (0.0, [])}
    for number, last in enumerate(cuts[1:], 1):
        best[last] = search.best_until(last, cuts[:number], best)
    return [search.balance(choice) for choice in best[cuts[-1]][1]]


def _works(graph: Graph, costs: Iterable[Cost]) -> dict[Op, Work]:
    found = {op.where: Work() for op in graph.ops}
    for cost in costs:
        if cost.engine == HOST or cost.name not in found:
            continue
        memory = cost.milliseconds.get(MEMORY, 0.0)
        moved = cost.dram_read + cost.dram_written
        share = cost.coefficient_bytes / moved if moved else 0.0
        old = found[cost.name]
        found[cost.name] = Work(
            old.array + cost.milliseconds.get("array", 0.0),
            old.features + memory * (1 - share),
            old.coefficients + memory * share,
        )
    return {op: found.pop(op.where, Work()) for op in graph.ops}


def separable(graph: Graph, place: int, absorbed: Collection[Value] | None = None) -> bool:
    """Whether a stage may begin at operation number `place`.

    It may not if an operation after it reads a value from before it that no program holds:
    `absorbed`, see `Device.absorbed`. Where a device does not say, no addition may read a value
    that nothing else reads: the convolution that makes it may add, and then rounds only once.
    """
    made = {v for op in graph.ops[:place] for v in op.results}
    if absorbed is not None:
        return not any(v in made for op in graph.ops[place:] for v in op.operands if v in absorbed)
    for op in graph.ops[place:]:
        if not isinstance(op, Add):
            continue
        for value in (op.a, op.b):
            if value in made and graph.users(value) == (op,) and not graph.is_output(value):
                return False
    return True


@dataclass(frozen=True, eq=False)
class _Search:
    graph: Graph
    works: Mapping[Op, Work]
    cores: int
    assumptions: Assumptions
    device: Device | None

    def undivided(self, op: Op) -> Collection[str]:
        return () if self.device is None else self.device.undivided(op)

    @cached_property
    def stages(self) -> dict[tuple[int, int], Graph]:
        return {}

    def stage(self, first: int, last: int) -> Graph:
        if (first, last) not in self.stages:
            self.stages[first, last] = self.graph.subgraph(self.graph.ops[first:last])
        return self.stages[first, last]

    def places(self) -> list[int]:
        """Return the places at which stages may begin or end, with both ends of the partition."""
        count = len(self.graph.ops)
        absorbed = None if self.device is None else self.device.absorbed(self.graph)
        allowed = [n for n in range(1, count) if separable(self.graph, n, absorbed)]
        if len(allowed) > _MOST_CUTS:
            allowed = self._spread(allowed)
        return [0, *allowed, count]

    def _spread(self, allowed: Sequence[int]) -> list[int]:
        """Divide the time into equal intervals and return the cheapest place in each of them."""
        whole = self.ends[-1] or 1.0
        kept: dict[int, tuple[float, int]] = {}
        for place in allowed:
            bucket = math.floor(_MOST_CUTS * self.ends[place] / whole)
            cost = self.conversion_time(self.stage(0, place).outputs)
            kept[bucket] = min(kept.get(bucket, (math.inf, 0)), (cost, place))
        return sorted(place for _, place in kept.values())

    def conversion_time(self, values: Iterable[Value]) -> float:
        """Return the milliseconds to convert tensors between the host's layout and the chip's."""
        return sum(_padded_bytes(value) for value in values) / self.assumptions.copy

    def best_until(
        self, last: int, places: Sequence[int], best: Mapping[int, tuple[float, list[Choice]]]
    ) -> tuple[float, list[Choice]]:
        """Return the fastest stages up to a place; `best` has those up to the places before it."""
        found: tuple[float, list[Choice]] = (math.inf, [])
        in_rows = True  # if rows do not pay for a stage, they pay less for a longer one
        for first in reversed(places):
            time, before = best[first]
            if time + (self.ends[last] - self.ends[first]) / self.cores >= found[0]:
                continue
            options = [self.one_core(first, last)]
            for cores in range(2, self.cores + 1):
                options += self.by_channels(first, last, cores)
            if in_rows:
                divided = [
                    o for n in range(2, self.cores + 1) for o in self.by_rows(first, last, n)
                ]
                in_rows = bool(divided) or last - first <= _MOST_SLICED
                options += divided
            took, choice = min(options, key=lambda option: option[0])
            if time + took < found[0]:
                found = time + took, [*before, choice]
        return found

    @cached_property
    def ends(self) -> list[float]:
        """For each place, the milliseconds of the operations before it on one core."""
        return list(accumulate((self.works[op].total for op in self.graph.ops), initial=0.0))

    def one_core(self, first: int, last: int) -> Option:
        time = duration([self.whole(self.stage(first, last))], self.assumptions)
        return time, Choice(first, last)

    def by_rows(self, first: int, last: int, cores: int) -> list[Option]:
        """Return the stage cut into rows, in a list; an empty one if that does not pay."""
        rows = Rows(tuple(n / cores for n in range(cores + 1)))
        efforts = self.row_efforts(self.stage(first, last), rows, [cores // 2])
        if not efforts:
            return []
        parts = efforts * cores  # the part in the middle has two borders and is the slowest
        return [(duration(parts, self.assumptions), Choice(first, last, rows))]

    def by_channels(self, first: int, last: int, cores: int) -> list[Option]:
        """Return the stage cut into channels, in a list; an empty one if that is impossible."""
        stage = self.stage(first, last)
        if last - first > _MOST_SLICED or not (slices := self.slices(stage, cores)):
            return []
        efforts = self.slice_efforts(stage, slices)
        return [(duration(efforts, self.assumptions), Choice(first, last, slices))]

    def whole(self, stage: Graph) -> Effort:
        works = [self.works[op] for op in stage.ops]
        return Effort(
            self.conversion_time(stage.inputs),
            sum(w.array for w in works),
            sum(w.features + w.coefficients for w in works),
            self.conversion_time(stage.outputs),
        )

    def row_efforts(self, stage: Graph, rows: Rows, numbers: Sequence[int]) -> list[Effort] | None:
        """Return the efforts of some parts; None if the stage cannot be cut, or if a part is nearly
        as large as the stage.
        """
        stage_links = self.links(stage)
        found = stage_links and row_spans(stage_links, stage.outputs, rows, numbers)
        if not found:
            return None
        efforts = [self._row_effort(stage, own, every) for own, every in found]
        useful = _WASTE * sum(self.works[op].array for op in stage.ops)
        return efforts if all(effort.array <= useful for effort in efforts) else None

    def _row_effort(
        self, stage: Graph, own: Mapping[Value, Span], every: Mapping[Value, Span]
    ) -> Effort:
        array = memory = 0.0
        for op in stage.ops:
            if (span := every.get(op.results[0])) is None:
                continue
            work, share = self.works[op], len(span) / op.results[0].shape[HEIGHT]
            array += work.array * share
            memory += work.features * share + work.coefficients
        inputs = [v for v in stage.inputs if v in every]
        read = sum(_padded_bytes(v) * len(every[v]) / v.shape[HEIGHT] for v in inputs)
        made = sum(_padded_bytes(v) * len(every[v]) / v.shape[HEIGHT] for v in stage.outputs)
        joined = sum(v.type.size_bytes * len(own[v]) / v.shape[HEIGHT] for v in stage.outputs)
        copy = self.assumptions.copy
        return Effort(read / copy, array, memory, (made + joined) / copy)

    @cached_property
    def links_by_op(self) -> dict[Op, Links | None]:
        return {op: None if "rows" in self.undivided(op) else links([op]) for op in self.graph.ops}

    def links(self, stage: Graph) -> Links | None:
        found: list[tuple[Value, Value, Window]] = []
        for op in stage.ops:
            stage_links = self.links_by_op[op]
            if stage_links is None:
                return None
            found += stage_links
        return found

    def slices(self, stage: Graph, cores: int) -> Channels | None:
        """Return equal slices of a stage's channels; None if it cannot be cut in this way."""
        made = channel_values(stage)
        if not made or any("channels" in self.undivided(op) for op in stage.ops):
            return None
        count = next(iter(made)).shape[-1]
        group = _GROUP if count >= _GROUP * cores else 1
        edges = [round(count / group * n / cores) * group for n in range(cores)]
        cuts = (*edges, count)
        return Channels(cuts) if len(set(cuts)) == len(cuts) else None

    def slice_efforts(self, stage: Graph, channels: Channels) -> list[Effort]:
        whole, found = self.whole(stage), []
        read = sum(v.type.size_bytes for v in stage.inputs)
        moved = read + sum(v.type.size_bytes for op in stage.ops for v in op.results)
        for low, high in pairwise(channels.cuts):
            share = (high - low) / channels.cuts[-1]
            features = sum(self.works[op].features for op in stage.ops)
            coefficients = sum(self.works[op].coefficients for op in stage.ops)
            memory = features * (read + (moved - read) * share) / moved + coefficients * share
            joined = sum(v.type.size_bytes for v in stage.outputs) / self.assumptions.copy
            after = (whole.after + joined) * share
            found.append(Effort(whole.before, whole.array * share, memory, after))
        return found

    def balance(self, choice: Choice) -> Choice:
        """Move the borders between the parts of a stage so that the stage takes less time."""
        if not isinstance(choice.cut, Rows):
            return choice
        stage = self.stage(choice.first, choice.last)
        height = max(v.shape[HEIGHT] for v in stage.outputs)
        best = choice.cut
        time = self._time(stage, best)
        for number in range(_STEPS):
            border, step = 1 + number // 2 % (len(best) - 1), (-1) ** number
            moved = best.cuts[border] + step / height
            cuts = Rows((*best.cuts[:border], moved, *best.cuts[border + 1 :]))
            if list(cuts.cuts) == sorted(cuts.cuts) and (took := self._time(stage, cuts)) < time:
                best, time = cuts, took
        return Choice(choice.first, choice.last, best)

    def _time(self, stage: Graph, rows: Rows) -> float:
        efforts = self.row_efforts(stage, rows, range(len(rows)))
        return math.inf if efforts is None else duration(efforts, self.assumptions)


def _padded_bytes(value: Value) -> int:
    """Return the bytes of a tensor whose channels are padded to a multiple of 16."""
    channels = value.shape[-1] if value.shape else 1
    return value.type.size_bytes // max(channels, 1) * -(-channels // _ATOM) * _ATOM
