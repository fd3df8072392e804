"""Operations that are machine code for other accelerators: for whose, told by their names.

A compiler of a maker of chips replaces a model's operations by one such operation. What they did
cannot be found in the file any more: it takes the file from before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from teflon.frontend.tflite.access import Table
from teflon.frontend.tflite.subgraphs import Operator

DISPATCH: Final = "DISPATCH_OP"
"""What LiteRT's compiler plugins of all makers of NPUs leave in a file.

# Ref: google-ai-edge/LiteRT, litert/core/build_stamp.h
"""

MAKERS: Final = (
    # Ref: google-coral/libedgetpu, tflite/public/edgetpu.h
    ("edgetpu-custom-op", "Google's Coral Edge TPU"),
    # Ref: tensorflow/tflite-micro, tensorflow/lite/micro/kernels/ethos_u/ethosu.cc
    ("ethos-u", "Arm's Ethos-U"),
    # Ref: VeriSilicon/tflite-vx-delegate, vsi_npu_custom_op.h
    ("vsi-npu", "one of VeriSilicon's NPUs"),
    # Ref: pytorch/executorch, backends/nxp/backend/neutron_converter_manager.py
    ("NeutronGraph*", "NXP's eIQ Neutron"),
    # Ref: google-ai-edge/LiteRT, litert/vendors/mediatek
    ("MTKEXT_*", "MediaTek's NeuroPilot"),
    # Ref: xmos/ai_tools, xformer/lib_tflite_micro/api/xcore_ops.h
    ("XC_*", "XMOS's xcore"),
)
"""The name of a custom operator, with a star at its end for all that begin so -> for what it is."""

_BYTECODE: Final = (
    (b"dwg_tpu", "Google Tensor"),
    (b"qnn_partition", "Qualcomm"),
    (b"Neuron", "MediaTek"),
)
"""Words in the code of partitions that tell the maker where the file bears no stamp."""
_MOST = 1 << 20
"""So many bytes at the end of a file, where such code lies, are looked at."""
_STAMP = "LiteRtStamp"


def refuse_foreign(model: Table, operator: Operator) -> None:
    """Raise ModelError for an operation that is code for another accelerator."""
    if not operator.code.is_custom:
        return
    target = _target(model, operator.name)
    if target:
        model.source.fail(
            operator.place,
            f"is made for {target}, must be an operation that other devices can run (use the"
            " original .tflite file, from before it was converted for that chip)",
        )


def _target(model: Table, name: str) -> str:
    if name == DISPATCH:
        return _dispatched(model)
    for pattern, target in MAKERS:
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return target
    return ""


def _dispatched(model: Table) -> str:
    """Return for which NPU LiteRT compiled a file: maker and chip from its stamp, or a guess."""
    words = list(_stamp(model))
    if not words:
        end = bytes(model.source.bytes[-_MOST:])
        words = [maker for word, maker in _BYTECODE if word in end][:1]
    return f"an NPU ({' '.join(words)})" if words else "an NPU of a phone or a board"


def _stamp(model: Table) -> Iterator[str]:
    """Yield the texts of the stamp: the maker, the model of the chip."""
    buffers = list(model.children("buffers"))
    for entry in model.children("metadata"):
        number = entry.get("buffer")
        if entry.text("name") != _STAMP or number >= len(buffers):
            continue
        data = buffers[number].vector("data")
        if data is not None:
            for text in data[:256].tobytes().split(b"\0"):
                if re.fullmatch(rb"[\w .,+-]{2,64}", text, re.ASCII):
                    yield text.decode()
