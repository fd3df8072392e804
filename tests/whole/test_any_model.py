"""Every public model runs and is right on every device, or is refused with a reason that helps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.oracle import needs_oracle
from tests.paths import needs_shared
from tests.whole.any_model import DEVICES, outcome, public

pytestmark = [needs_shared, needs_oracle]

PATHS = public() or [Path("none.tflite")]

FOREIGN = r"is made for .*(use the original \.tflite file"
NO_RUNTIME = r"the TFLite runtime has no custom operation '"
REFUSED = {
    "MTKEXT_CONV_2D": FOREIGN,
    "person_detect_vela": FOREIGN,
    "shared_input_cpu_npu_google_tensor_precompiled": FOREIGN,
    "simple_add_op_qc_v75_precompiled": FOREIGN,
    "simple_model_npu_mediatek_mt6989_precompiled": FOREIGN,
    "audio_preprocessor_float": NO_RUNTIME,
    "max_unpooling_2d": NO_RUNTIME,
    "max_unpooling_2d_valid": NO_RUNTIME,
    "model_invoking_error": NO_RUNTIME,
    "whitespace_tokenizer_to_tensor": NO_RUNTIME,
    # TFLite refuses these two as well: files that contradict themselves
    "blockwise_quantized": r"reads tensor 'quantized_tensor', which must be an input, a constant",
    "simple_squeeze": r"takes away axis 1 of 'arg0', which has the shape \[\]",
}
"""Foreign accelerators, custom operations that no runtime has, invalid files: nothing else."""

UNCOMPARED = {"person_detect", "keyword_scrambled_8bit"}
"""Made for microcontrollers; TFLite refuses the first and writes past the second's state."""

FLOAT_RATIO = 1e-6
"""How far floats of the CPU may be from TFLite's, as a part of the largest (docs/any-model.md)."""

GROUPED = {
    "kws_ref_model": 7,
    "mobilenet_v2_quantized_1x3x224x224": 2,
    "movenet_single_pose_lightning_ptq": 27,
    "person_detect": 3,
    "pretrainedResnet_quant": 2,
    "ssd_slim_120x160x1_v1_int8": 3,
    "str_ww_ref_model": 3,
    "tf2_mobilenet_v2_1.0_224_ptq": 16,
    "vww_96_int8": 5,
    "yamnet_wavin_quantized_mel_relu6": 21,
}
"""Steps of one layer on VeriSilicon's chips, which share a scale between channels: per-channel.md.
All other layers, and all of the RK3588, are within one step.
"""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_public_model(path: Path, device: str) -> None:
    found = outcome(path, device)
    if path.stem in REFUSED:
        assert re.search(REFUSED[path.stem], found.refusal)
        assert "\n" not in found.refusal
        return
    assert found.refusal == ""
    if device == "cpu":
        assert bool(found.oracle) == (path.stem in UNCOMPARED), found.oracle
        assert found.apart == 0
        assert found.ratio <= FLOAT_RATIO
        return
    grouped = 1 if device == "sim:rk3588" else GROUPED.get(path.stem, 1)
    assert found.apart <= grouped


def test_the_lists_name_models_that_are_there() -> None:
    names = {path.stem for path in PATHS}
    assert names >= REFUSED.keys() | GROUPED.keys() | UNCOMPARED
    assert len(names) >= 130
