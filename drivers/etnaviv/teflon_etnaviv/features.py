"""What the units of each chip can do, by the names of the vendor's database.

Ref: docs/hardware/etnaviv_vendor.md, features by chip
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Features:
    """The features that decide over limits, and those that this driver would have to program to use
    them. What all chips have, and what none has, has its value for a default.
    """

    # What decides over limits.
    nn_xydp0: bool  # coefficients are Huffman coded
    nn_depthwise_support: bool  # kernels of one plane
    nn_zrl_bits: int  # widest zero-run field
    nn_kernel_size: int  # largest kernel along x and y
    coef_compression_enhancement: bool
    nn_coef_decompress_perf2x: bool
    nn_mirror_border: bool = False
    nn_nonzero_border: bool = False

    # What the chips of the A311D2's class have.
    nn_per_channel_quant: bool = False  # a scale for each output channel
    nn_per_channel_quant_asym: bool = False
    nn_asymmetric_int8: bool = False
    nn_float_post_mult: bool = False
    nn_leaky_relu: bool = False
    nn_prelu: bool = False
    nn_tensor_add: bool = False
    nn_native_stride_two: bool = False

    nn_first_pixel_pooling: bool = True
    tp_max_pooling_stride1: bool = True
    tp_lrn: bool = True
    tp_roi_pooling: bool = True
    tp_reorder: bool = True
    tp_tensor_add_mul: bool = False
    tp_softmax: bool = False
    scaler: bool = False
    tp_lut_entries: int = 1024


A311D = Features(
    nn_xydp0=False,
    nn_depthwise_support=False,
    nn_zrl_bits=5,
    nn_kernel_size=11,
    coef_compression_enhancement=False,
    nn_coef_decompress_perf2x=False,
)
S905D3 = replace(A311D, nn_zrl_bits=8, coef_compression_enhancement=True)
VIPNANO_QI_7131 = replace(S905D3, nn_coef_decompress_perf2x=True, nn_mirror_border=True)
IMX8MP = Features(
    nn_xydp0=True,
    nn_depthwise_support=True,
    nn_zrl_bits=8,
    nn_kernel_size=15,
    coef_compression_enhancement=True,
    nn_coef_decompress_perf2x=True,
    nn_nonzero_border=True,
)
VIP9000 = replace(
    IMX8MP,
    nn_per_channel_quant=True,
    nn_per_channel_quant_asym=True,
    nn_asymmetric_int8=True,
    nn_float_post_mult=True,
    nn_leaky_relu=True,
    nn_prelu=True,
    nn_tensor_add=True,
    nn_native_stride_two=True,
)
"""The VIP9000 of the A311D2's class, 8302/0xe8."""

MISSING = {
    "nn_per_channel_quant": "a scale for each output channel",
    "nn_asymmetric_int8": "int8 with zero points",
    "nn_float_post_mult": "output scales as floats",
    "nn_native_stride_two": "strides of 2",
    "nn_tensor_add": "sums of two tensors",
}
"""What no source says how to program, for the features that a chip of its own has."""


def missing(features: Features) -> str:
    """Return what a chip has that this driver cannot program, "" for nothing."""
    return ", ".join(text for name, text in MISSING.items() if getattr(features, name))
