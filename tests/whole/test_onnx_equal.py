"""The same network as .tflite and, through tf2onnx, as .onnx: the same programs, byte for byte."""

from __future__ import annotations

from functools import cache

import pytest

from teflon.compile.partition import Plan
from teflon.compile.planning import plan_model
from teflon.devices import open_device
from teflon.frontend.onnx.reader import read as read_onnx
from teflon.frontend.tflite.reader import read as read_tflite
from teflon.ir import Graph, serial
from tests.frontend.onnx.canonical import canonical, content, difference, npu_parts
from tests.frontend.onnx.tf2onnx_runner import convert, flattened, needs_tf2onnx
from tests.paths import MODELS, needs_shared

pytestmark = needs_tf2onnx

DEVICES = ("rk3588", "a311d")
SHIPPED = ("digits_int8", "digits_uint8")
PUBLIC = (
    "mobilenet_v1_1.0_224_quant", "yolox", "vww_96_int8", "kws_ref_model", "str_ww_ref_model",
    "tf2_mobilenet_v2_1.0_224_ptq", "pretrainedResnet_quant", "ssd_slim_120x160x1_v1_int8",
    "hello_world_int8", "simple_add_model",
)  # fmt: skip
PARTLY = ("ssdlite_mobiledet_coco_qat_postprocess", "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29")
"""Networks of which the NPU's partitions are equal: tf2onnx writes the box decoding anew."""

# Not here: person_detect (tf2onnx copies TFLite's axis 3 of a bias, which ONNX does not allow) and
# mobilenet_v2_quantized_1x3x224x224 (tf2onnx pads before it transposes, TFLite does so after) and
# deeplabv3 (a QUANTIZE before a CONCATENATION, which tf2onnx writes as other scales of its inputs).

WHOLE = [*SHIPPED, *(pytest.param(name, marks=needs_shared) for name in PUBLIC)]
"""Networks that are equal as a whole."""
ALL = [*WHOLE, *(pytest.param(name, marks=needs_shared) for name in PARTLY)]


def _content(name: str) -> bytes:
    """Return a .tflite file."""
    if name in SHIPPED:
        return flattened(name)
    assert MODELS is not None
    path = MODELS / f"{name}.tflite"
    return (path if path.exists() else MODELS / "public" / f"{name}.tflite").read_bytes()


@cache
def graphs(name: str) -> tuple[Graph, Graph]:
    data = _content(name)
    return read_onnx(convert(data).SerializeToString(), name), read_tflite(data, name)


@cache
def plans(name: str, device: str) -> tuple[Plan, Plan]:
    """Return both plans, of the graphs as they are read."""
    opened = open_device(device)[0]
    ours, theirs = graphs(name)
    return plan_model(ours, opened), plan_model(theirs, opened)


@pytest.mark.parametrize("name", WHOLE)
def test_the_same_graph(name: str) -> None:
    ours, theirs = (plan.graph for plan in plans(name, "cpu"))
    assert content(ours) == content(theirs), difference(canonical(ours), canonical(theirs))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ALL)
def test_the_same_programs(name: str, device: str) -> None:
    opened = open_device(device)[0]
    ours, theirs = (npu_parts(plan) for plan in plans(name, device))
    assert [len(part.ops) for part in ours] == [len(part.ops) for part in theirs]
    assert ours
    for mine, other in zip(ours, theirs, strict=True):
        assert serial.content(mine) == serial.content(other), "the key of the compile cache"
        assert difference(mine, other) == ""
        assert opened.compile(mine).to_bytes() == opened.compile(other).to_bytes()
