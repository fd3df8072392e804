"""The shapes of results of operators that stay opaque: as in the file, asked for, or unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from teflon.errors import DriverUnavailable
from teflon.frontend.tflite.access import Source
from teflon.frontend.tflite.node import NodeView, reshaped
from teflon.frontend.tflite.subgraphs import Operator, Subgraph
from teflon.frontend.tflite.tensors import Tensor
from teflon.ir import Value

Shape = tuple[int, ...]

_ALWAYS = frozenset({"WHERE", "UNIQUE"})
"""Operators whose results have as many elements as their operands' content says."""

_BY_OPERANDS: Mapping[str, tuple[int, ...]] = {
    "RESHAPE": (1,), "TILE": (1,), "FILL": (0,), "BROADCAST_TO": (1,), "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3), "TOPK_V2": (1,), "SPARSE_TO_DENSE": (1,), "RANGE": (0, 1, 2),
    "ONE_HOT": (1,), "PAD": (1,), "PADV2": (1,), "MIRROR_PAD": (1,), "SPACE_TO_BATCH_ND": (1, 2),
    "BATCH_TO_SPACE_ND": (1, 2), "RESIZE_BILINEAR": (1,), "RESIZE_NEAREST_NEIGHBOR": (1,),
    "TRANSPOSE_CONV": (0,), "CONV_3D_TRANSPOSE": (0,), "EXPAND_DIMS": (1,), "TRANSPOSE": (1,),
    "MEAN": (1,), "SUM": (1,), "REDUCE_PROD": (1,), "REDUCE_MAX": (1,), "REDUCE_MIN": (1,),
    "REDUCE_ANY": (1,), "REDUCE_ALL": (1,), "ARG_MAX": (1,), "ARG_MIN": (1,), "SPLIT": (0,),
    "SPLIT_V": (1, 2), "NON_MAX_SUPPRESSION_V4": (2,), "NON_MAX_SUPPRESSION_V5": (2,),
    "SCATTER_ND": (2,), "RANDOM_UNIFORM": (0,), "RANDOM_STANDARD_NORMAL": (0,),
    "MULTINOMIAL": (1,), "SEGMENT_SUM": (1,), "UNSORTED_SEGMENT_MAX": (2,),
    "UNSORTED_SEGMENT_MIN": (2,), "UNSORTED_SEGMENT_PROD": (2,), "UNSORTED_SEGMENT_SUM": (2,),
    "RFFT2D": (1,),
}  # fmt: skip
"""Operators whose results' shapes follow from the content of these operands.

# Ref: LiteRT 2.3, tflite/kernels, the Prepare functions that call SetTensorToDynamic
"""


class Shapes:
    """What is known of the shapes of a file's tensors while its operators are read."""

    def __init__(
        self,
        source: Source,
        declared: Mapping[int, Tensor],
        inputs: Mapping[int, Shape],
        ask: Callable[[], Mapping[int, Shape]] | None = None,
    ) -> None:
        self.source = source
        self.declared = declared
        self.inputs = {n: reshaped(declared[n].value, shape) for n, shape in inputs.items()}
        self._ask = ask
        self._asked: Mapping[int, Shape] | None = None

    @classmethod
    def of_file(cls, part: Subgraph) -> Shapes:
        """Return the shapes of a subgraph as it is in the file."""
        return cls(part.table.source, part.tensors, {})

    @property
    def resizing(self) -> bool:
        """Whether inputs have other shapes than in the file: then all results may."""
        return bool(self.inputs)

    def results(
        self, operator: Operator, node: NodeView, dynamic: bool = False
    ) -> tuple[Value, ...]:
        """Return the results of an operator that stays opaque, with their shapes."""
        if dynamic or _depends_on_content(node):
            return tuple(map(_dynamic, node.outputs))
        if not any(self._has_changed(v) for v in node.inputs if v is not None):
            return node.outputs
        return tuple(self._known(operator.place, value) for value in node.outputs)

    def of_whole(self, place: object, outputs: Sequence[Value]) -> tuple[Value, ...]:
        """Return the outputs of the file where it runs as a whole."""
        return tuple(self._known(place, v) for v in outputs) if self.resizing else tuple(outputs)

    def _has_changed(self, value: Value) -> bool:
        tensor = self.declared.get(value.index)
        return tensor is not None and not value.is_constant and tensor.value.shape != value.shape

    def _known(self, place: object, value: Value) -> Value:
        """Ask a runtime; a tensor that it has no shape for gets it when it is computed."""
        if self._asked is None:
            self._asked = self._shapes_of_runtime(place, value)
        shape = self._asked.get(value.index)
        if shape is None:
            return _dynamic(value)
        return reshaped(value, tuple(int(size) for size in shape))

    def _shapes_of_runtime(self, place: object, value: Value) -> Mapping[int, Shape]:
        reason = "no TFLite runtime is installed (pip install 'teflon-npu[tflite]')"
        if self._ask is not None:
            try:
                return self._ask()
            except DriverUnavailable as error:
                reason = str(error)
        return self.source.fail(
            place,
            f"the shape of {value.name!r} is unknown as the inputs are not those of the file, must"
            f" be told by a TFLite runtime: {reason}",
        )


def dynamic_operand(values: Sequence[Value | None]) -> Value | None:
    """Return an operand whose shape only computing it tells, if there is one."""
    return next((v for v in values if v is not None and v.type.dynamic), None)


def _dynamic(value: Value) -> Value:
    return replace(value, type=replace(value.type, dynamic=True))


def _depends_on_content(node: NodeView) -> bool:
    if node.is_custom:
        return False
    if node.name in _ALWAYS:
        return True
    operands = [node.optional(place) for place in _BY_OPERANDS.get(node.name, ())]
    return any(v is not None and not v.is_constant for v in operands)
