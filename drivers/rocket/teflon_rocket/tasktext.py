"""TEFLON_DEBUG=rocket-tasks: how operations were split to fit the convolution buffer."""

from __future__ import annotations

from teflon.debug import enabled, log
from teflon_rocket.operation import Operation
from teflon_rocket.tasks import Split, Tile


def show(op: Operation, split: Split) -> None:
    """Log an operation's split, if that is wanted."""
    if enabled("rocket-tasks"):
        log(text(op, split))


def text(op: Operation, split: Split) -> str:
    """Return a line for the operation and one for every task."""
    kind = "depthwise" if op.depthwise else "convolution"
    facts = [
        f"{op.height}x{op.width}x{op.channels} -> {op.out_height}x{op.out_width}x{op.out_channels}",
        f"kernel {op.kernel[1]}x{op.kernel[0]} stride {op.stride[1]}x{op.stride[0]}",
        f"banks {split.data_banks} data {split.weight_banks} weights",
        "weights stay" if split.reuse else "weights again for each task",
        "one job" if split.together else "a job for each task",
    ]
    tiles = [f"  task {number}: {_tile(tile)}" for number, tile in enumerate(split.tiles)]
    return "\n".join([f"rocket: {op.name} {kind} {', '.join(facts)}", *tiles])


def _tile(tile: Tile) -> str:
    image = f"image {tile.image} " if tile.image else ""
    rows = f"rows {tile.top}+{tile.rows} -> {tile.out_top}+{tile.out_rows}"
    columns = f"columns {tile.left}+{tile.columns} -> {tile.out_left}+{tile.out_columns}"
    return f"{image}{rows}, {columns}, padding {tile.pad_top} above {tile.pad_left} left"
