"""Files made for other accelerators are refused, with the name of what they were made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from teflon.errors import ModelError
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.foreign import MAKERS
from teflon.frontend.tflite.reader import read
from tests.frontend.tflite.helpers import code, message, opaques, operator, relu, tensor
from tests.paths import MODELS, needs_shared

CURE = (
    ", must be an operation that other devices can run (use the original .tflite file, from before"
    " it was converted for that chip)"
)


def custom(name: str, **more: Any) -> bytes:
    tensors = [tensor("x"), tensor("y"), tensor("scratch", (64,))]
    return relu(
        tensors=tensors,
        operators=[operator([0, 2], [1])],  # nothing makes the scratch memory
        codes=[code("CUSTOM", custom_code=name)],
        **more,
    )


@pytest.mark.parametrize(("pattern", "target"), MAKERS)
def test_code_of_a_maker(pattern: str, target: str) -> None:
    name = pattern.replace("*", "anything")
    assert message(custom(name)) == (
        f"bad.tflite: subgraphs[0]/operators[0] {name} 'y': is made for {target}{CURE}"
    )


def stamped(*texts: bytes) -> bytes:
    """A file of LiteRT's compiler: its stamp is in a buffer that the metadata names."""
    stamp = np.frombuffer(b"".join(text.ljust(124, b"\0") for text in texts), np.uint8)
    return custom(
        "DISPATCH_OP",
        constants=[stamp],
        metadata=[table("Metadata", name="LiteRtStamp", buffer=1)],
    )


@pytest.mark.parametrize(
    ("data", "target"),
    [
        (stamped(b"Qualcomm", b"SM8650"), "an NPU (Qualcomm SM8650)"),
        (stamped(b"Samsung", b""), "an NPU (Samsung)"),
        (stamped(b"", b"\xff\xfe"), "an NPU of a phone or a board"),
        (custom("DISPATCH_OP"), "an NPU of a phone or a board"),
        (custom("DISPATCH_OP") + b"\0dwg_tpu_offload\0", "an NPU (Google Tensor)"),
        (
            custom("DISPATCH_OP", metadata=[table("Metadata", name="LiteRtStamp", buffer=9)]),
            "an NPU of a phone or a board",
        ),
    ],
)
def test_partitions_of_litert(data: bytes, target: str) -> None:
    assert message(data).endswith(f"DISPATCH_OP 'y': is made for {target}{CURE}")


def test_builtin_operators_of_such_a_name_do_not_exist_and_others_stay() -> None:
    data = relu(codes=[code("CUSTOM", custom_code="ethos-u-like")])
    assert opaques(read(data)) == [
        ("ethos-u-like 'y'", "is a custom operation, which only a runtime that was made with it can"
                             " run"),
    ]  # fmt: skip


def test_operations_of_tensorflow() -> None:
    data = relu(codes=[code("CUSTOM", custom_code="FlexErf")])
    assert opaques(read(data)) == [
        ("FlexErf 'y'", "is an operation of TensorFlow, which must be installed (pip install"
                        " tensorflow)"),
    ]  # fmt: skip


FILES = {
    "MTKEXT_CONV_2D": "MediaTek's NeuroPilot",
    "person_detect_vela": "Arm's Ethos-U",
    "shared_input_cpu_npu_google_tensor_precompiled": "an NPU (Google Tensor)",
    "simple_add_op_qc_v75_precompiled": "an NPU (Qualcomm V75)",
    "simple_model_npu_mediatek_mt6989_precompiled": "an NPU (MediaTek mt6989)",
}


@needs_shared
@pytest.mark.parametrize("name", FILES)
def test_public_files(name: str) -> None:
    assert MODELS is not None
    data = (MODELS / "public" / f"{name}.tflite").read_bytes()
    with pytest.raises(ModelError) as caught:
        read(data, name)
    assert str(caught.value).endswith(f"is made for {FILES[name]}{CURE}")
