"""The bias of a convolution or matrix product: int32, in steps of input times weight scale."""

from __future__ import annotations

import numpy as np

from teflon.frontend.onnx.site import Site
from teflon.frontend.onnx.tensors import Tensor
from teflon.ir import Value
from teflon.ir.types import Array, DType, Quantization

_CLOSE = 1e-3
"""How far, relatively, a bias's scale may be from the product of input's and weights' scale."""


def bias_of(site: Site, x: Value, w: Value, outputs: int) -> Value | None:
    """Return the bias, None if there is none; `outputs` is how many numbers it must have."""
    tensor = site.optional(2) if site.bias is None else site.bias
    if tensor is None:
        return None
    kind = w.type.quantization
    assert kind is not None
    scales = np.float32(x.type.scale) * np.array(kind.scales, np.float32)
    usable = bool(((scales > 0) & np.isfinite(scales)).all())
    site.require(usable, "input scale times weight scale is no float32 above 0")
    steps, said = _as_said(site, tensor, scales)
    if steps is None:
        real = _real(site, tensor)
        sizes = {real.size, len(scales)} - {1, outputs}
        site.require(not sizes, f"bias or scales have {sizes} numbers, must have {outputs}")
        wanted = np.rint(real / scales.astype(np.float64))
        site.require(bool(np.isfinite(wanted).all()), f"bias {tensor.name!r} is not finite")
        steps, said = np.clip(wanted, -(2**31), 2**31 - 1).astype(np.int32), scales
    if steps.size == 1 < outputs:
        steps = np.repeat(steps, outputs)
    site.require(steps.size == outputs, f"bias has {steps.size} numbers, must have {outputs}")
    numbers = tuple(float(s) for s in said)
    axis = 0 if len(numbers) > 1 else None
    return site.emitter.constant(
        steps, tensor.name, Quantization(numbers, (0,) * len(numbers), axis)
    )  # fmt: skip


def _as_said(site: Site, tensor: Tensor, scales: Array) -> tuple[Array | None, Array]:
    """Return the file's own steps and scales, where they are the products of the others."""
    if tensor.data is not None and tensor.data.dtype == np.int32:
        return tensor.data.reshape(-1), scales
    view = tensor.steps
    if view is None or view.type.dtype is not DType.INT32 or view.value.data is None:
        return None, scales
    kind = view.type.quantization
    assert kind is not None
    theirs = np.array(kind.scales, np.float32)
    near = len(theirs) in (1, len(scales)) and np.allclose(theirs, scales, _CLOSE, 0)
    if not near or any(kind.zero_points):
        return None, scales
    return view.value.data.reshape(-1), theirs


def _real(site: Site, tensor: Tensor) -> Array:
    """Return the bias as real numbers."""
    view = tensor.steps
    if tensor.data is not None and tensor.data.dtype.kind == "f":
        return tensor.data.reshape(-1).astype(np.float64)
    if view is None or view.value.data is None or view.type.quantization is None:
        site.unread(f"bias {tensor.name!r} is computed, must be constant")
    kind, data = view.type.quantization, view.value.data.reshape(-1)
    good = len(kind.scales) in (1, data.size)
    site.require(good, f"bias {tensor.name!r} has {len(kind.scales)} scales")
    zero = np.array(kind.zero_points, np.float64)
    real: Array = (data.astype(np.float64) - zero) * np.array(kind.scales, np.float64)
    return real
