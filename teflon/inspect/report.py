"""Reports about a plan: where each operation runs and why, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from teflon.compile.partition import NOWHERE, Plan
from teflon.pipe import Program


@dataclass(frozen=True)
class Report:
    """The report of a plan: a row for each operation and each partition, and totals."""

    plan: Plan
    statistics: Sequence[Mapping[str, int]] = ()  # one for each partition; () if not compiled
    remarks: Sequence[Sequence[str]] = ()  # those of each partition's program; () if not compiled

    @classmethod
    def of(cls, plan: Plan, programs: Sequence[Program | None]) -> Self:
        """Return the report of a compiled plan."""
        sizes = [dict(program.statistics) if program else {} for program in programs]
        return cls(plan, sizes, [program.remarks if program else () for program in programs])

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "model": self.plan.graph.name,
            "devices": list(self.plan.devices),
            "operations": [self._operation(n) for n in range(len(self.plan.listed))],
            "folded": [
                {"index": op.index, "name": op.where, "kind": op.kind_name}
                for op in self.plan.folded
            ],
            "partitions": self._partitions(),
            "totals": self.totals(),
        }

    def totals(self) -> dict[str, Any]:
        """Return the numbers of operations, MACs and partitions of each device."""
        ops, macs, parts = Counter[str](), Counter[str](), Counter[str]()
        for part in self.plan.partitions:
            name = self.plan.device_name(part.device)
            parts[name] += 1
            ops[name] += len(part.graph.ops)
            macs[name] += sum(op.macs for op in part.graph.ops)
        return {"operations": dict(ops), "macs": dict(macs), "partitions": dict(parts)}

    def __str__(self) -> str:
        """Return a line for each operation, then the totals of each device."""
        rows = [self._operation(n) for n in range(len(self.plan.listed))]
        kinds = max((len(r["kind"]) for r in rows), default=0)
        places = max((len(r["device"]) for r in rows), default=0)
        lines = [f"{self.plan.graph.name}: {len(rows)} operations"]
        for row in rows:
            why = "".join(f"\n{'':>8}{r['device']}: {r['reason']}" for r in row["reasons"])
            place = f"{row['device']:<{places}}  {row['partition']:>3}"
            lines.append(f"{row['number']:>5}  {row['kind']:<{kinds}}  {place}  {row['name']}{why}")
        lines += [f"{'':>5}  {op.kind_name} {op.where}: folded" for op in self.plan.folded]
        totals = self.totals()
        for name, count in totals["operations"].items():
            macs, parts = totals["macs"][name], totals["partitions"][name]
            lines.append(f"{name}: {count} operations, {macs:,} MACs, {parts} partitions")
        for part, remarks in zip(self.plan.partitions, self.remarks, strict=False):
            lines += [f"partition {part.index}: {remark}" for remark in remarks]
        return "\n".join(lines)

    def _operation(self, number: int) -> dict[str, Any]:
        op = self.plan.listed[number]
        placement = self.plan.placements[op]
        return {
            "number": number,
            "index": op.index,
            "name": op.where,
            "kind": op.kind_name,
            "macs": op.macs,
            "device": self.plan.device_name(placement.device),
            "runs": placement.device != NOWHERE,
            "partition": placement.partition,
            "reasons": [{"device": d, "reason": r} for d, r in placement.reasons],
        }

    def _partitions(self) -> list[dict[str, Any]]:
        statistics = list(self.statistics) or [{}] * len(self.plan.partitions)
        remarks = list(self.remarks) or [()] * len(self.plan.partitions)
        numbers = {op: number for number, op in enumerate(self.plan.listed)}
        return [
            {
                "index": part.index,
                "device": self.plan.device_name(part.device),
                "operations": [numbers[op] for op in part.graph.ops],
                "macs": sum(op.macs for op in part.graph.ops),
                "statistics": dict(sizes),
                "remarks": list(lines),
            }
            for part, sizes, lines in zip(self.plan.partitions, statistics, remarks, strict=True)
        ]
