"""Passes that any driver may use, one file each: Graph -> Graph."""

from teflon.ir.lower.activations import clamp_of, lower_activations
from teflon.ir.lower.channels import level_channels
from teflon.ir.lower.constants import fold_constants
from teflon.ir.lower.dead import remove_dead
from teflon.ir.lower.dilation import FoldSpaceToBatch, fold_space_to_batch
from teflon.ir.lower.flatten import FoldFlatten
from teflon.ir.lower.fuse import fuse_activations
from teflon.ir.lower.order import order_operations
from teflon.ir.lower.pad import FoldPad, fold_pad
from teflon.ir.lower.reshape import merge_reshapes
from teflon.ir.lower.tables import FoldTables, fold_tables

__all__ = [
    "STANDARD", "FoldFlatten", "FoldPad", "FoldSpaceToBatch", "FoldTables", "clamp_of",
    "fold_constants", "fold_pad", "fold_space_to_batch", "fold_tables", "fuse_activations",
    "level_channels", "lower_activations", "merge_reshapes", "order_operations", "remove_dead",
]  # fmt: skip

STANDARD = (fold_constants, remove_dead)
"""What runs on every model before it is partitioned: the user's operations keep their places."""
