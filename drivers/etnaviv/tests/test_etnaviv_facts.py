"""Chips, descriptors, states, kernel interface: against the pages and worked examples."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import DriverUnavailable, FieldOverflow
from teflon_common.registers import Descriptor
from teflon_etnaviv import chips, cmdstream, features, states, uapi
from teflon_etnaviv.chips import Identity, Unusable
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_etnaviv.exact.layers.sums import weights_in_ratio
from tests.etnaviv.parity import CHIPS
from tests.paths import ROOT

PAGES = ROOT / "docs" / "hardware"


@pytest.mark.parametrize(
    ("kind", "file"), [(NNInstruction, "etnaviv_nn.json"), (TPInstruction, "etnaviv_tp.json")]
)
def test_fields_lie_where_the_page_says(kind: type[Descriptor], file: str) -> None:
    rows = json.loads((PAGES / file).read_text())
    page = [(f["name"], f["word"], f["lo_bit"], f["width"]) for f in rows]
    assert [(f.name, f.word, f.lo, f.width) for f in kind.fields] == page


# Ref: docs/hardware/etnaviv.md section 7.6
TRANSPOSE = """
    00000010 00080008 00000010 00000080 00000000 0007000f 20000018 00000000
    00080001 00080001 ffffa000 00000000 80000002 ffff9000 00000001 00000040
    00100008 00000008 00000000 00010008 00000000 00000000 00010001 00000000
    0000000a 00000000 03ffffff 00000000 03ffffff 78000000 00000078"""


def test_a_descriptor_reads_as_it_was_written() -> None:
    words = [int(word, 16) for word in TRANSPOSE.split()]
    job = TPInstruction.unpack(words)
    assert list(job.pack()) == words
    assert job == TPInstruction(
        in_image_x_size=16, in_image_y_size=8, in_image_z_size=8, in_image_stride=16,
        in_image_slice=128, in_window_x_end=15, in_window_y_end=7, in_tile_y_size=8,
        in_tile_y_inc=8, in_image_base_address=0xFFFFA000, out_image_base_address=0xFFFF9000,
        out_loop_0_count=8, out_loop_1_inc=64, out_loop_1_count=16, out_loop_2_inc=8,
        out_loop_2_count=8, in_zp=120, out_zp=120,
    )  # fmt: skip


def test_overflow_names_the_field() -> None:
    with pytest.raises(FieldOverflow, match=r"NNInstruction: in_image_x_size is 8192, must fit 13"):
        NNInstruction(in_image_x_size=8192).pack()


def test_identities_are_unique_and_recognised() -> None:
    seen = [i for chip in chips.CHIPS for i in chip.identities]
    assert len(set(seen)) == len(seen)
    for chip in chips.CHIPS:
        assert chips.chip(chip.name) is chip
        assert all(chips.identify(i) is chip for i in chip.identities)
    assert chips.identify(Identity(0x8000, 0x7120, 0x45080009, 0x77, 0)) is None


def test_a_gpu_is_not_an_npu() -> None:
    gpu = Identity(0x7000, 0x6204, 0, 0, 0)
    found = chips.npu_pipe([gpu])
    assert isinstance(found, Unusable)
    assert "GPU without NN cores" in found.problem
    npu = chips.chip("imx8mp").identities[0]
    assert chips.npu_pipe([gpu, npu]) == (1, chips.chip("imx8mp"))
    nothing = chips.npu_pipe([])
    assert isinstance(nothing, Unusable)
    assert nothing.problem == "no core answers on this node"


def test_an_npu_of_another_class_is_refused_with_what_is_missing() -> None:
    """Ref: docs/hardware/etnaviv_vendor.md, features by chip (8302/0xe8)."""
    other = chips.chip("vip9000nano-di-8302")
    assert other.features == features.VIP9000
    found = chips.npu_pipe([*other.identities])
    assert isinstance(found, Unusable)
    assert found.problem == (
        "vip9000nano-di-8302 (model 0x9000 revision 0x8302 product 0x5090009 customer 0xe8 eco"
        " 0x8000000) is an NPU of another class than this driver's: it has a scale for each output"
        " channel, int8 with zero points, output scales as floats, strides of 2, sums of two"
        " tensors, and how its instructions say so is in no recording and no source"
    )
    assert "--device cpu" in found.cure
    npu = chips.chip("a311d")
    assert chips.npu_pipe([*other.identities, *npu.identities]) == (1, npu)
    assert not any(chips.chip(name).missing for name in CHIPS)


_COLUMNS = {
    1: features.A311D, 2: features.S905D3, 3: features.VIPNANO_QI_7131, 4: features.IMX8MP,
    5: features.VIP9000,
}  # fmt: skip
_ROWS = {
    "NN_PER_CHANNEL_QUANT": ["nn_per_channel_quant", "nn_per_channel_quant_asym"],
    "NN_ASYMMETRIC_INT8": ["nn_asymmetric_int8"],
    "NN_FLOAT_POST_MULT": ["nn_float_post_mult", "nn_leaky_relu", "nn_prelu", "nn_tensor_add"],
    "TP_TENSOR_ADD_MUL": ["tp_tensor_add_mul", "tp_softmax", "scaler"],
    "NN_DEPTHWISE_SUPPORT": ["nn_depthwise_support", "nn_xydp0"],
    "NN_NATIVE_STRIDE_TWO": ["nn_native_stride_two"],
    "NN_FIRST_PIXEL_POOLING": [
        "nn_first_pixel_pooling", "tp_max_pooling_stride1", "tp_lrn", "tp_roi_pooling", "tp_reorder"
    ],
    "COEF_COMPRESSION_ENHANCEMENT": ["coef_compression_enhancement", "nn_coef_decompress_perf2x"],
    "largest kernel": ["nn_kernel_size"],
    "NN_MIRROR_BORDER": ["nn_mirror_border", "nn_nonzero_border"],
    "zero-run bits": ["nn_zrl_bits"],
}  # fmt: skip
"""The first words of a row of the page's table, and the fields that it is about."""


def test_features_are_those_of_the_page() -> None:
    page = (PAGES / "etnaviv_vendor.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    for title, names in _ROWS.items():
        (cells,) = (row for row in rows if len(row) == 6 and row[0].startswith(title))
        for column, about in _COLUMNS.items():
            numbers = [int(n) for n in re.findall(r"\d+", cells[column])]
            wanted = numbers * len(names) if len(numbers) == 1 else numbers
            assert [int(getattr(about, name)) for name in names] == wanted, (title, column)


def test_limits_are_those_of_the_features() -> None:
    for row in chips.CHIPS:
        if row.features is None:
            continue
        assert row.kernel_size_max == row.features.nn_kernel_size
        assert row.nn_zrl_bits == row.features.nn_zrl_bits
        assert row.lut_entries == row.features.tp_lut_entries
        assert row.depthwise_mode == row.features.nn_depthwise_support
        assert row.huffman == row.features.nn_xydp0


def test_an_unknown_chip_gets_a_hint() -> None:
    with pytest.raises(DriverUnavailable, match=r"did you mean imx8mp\?"):
        chips.chip("imx8m")


def test_padding_is_bounded_by_the_bits_of_the_offset() -> None:
    """Ref: docs/hardware/etnaviv.md sections 1.3, 1.4 (input offset bits)."""
    bounds = {row.name: row.padding_max for row in chips.CHIPS}
    assert bounds["a311d"] == bounds["s905d3"] == 8
    assert bounds["imx8mp"] == 16
    assert bounds["vipnano-qi-7004"] == 4


def test_request_numbers() -> None:
    """Ref: docs/hardware/etnaviv.md section 2.2."""
    numbers = {i.name: i.request for i in uapi.ETNAVIV.ioctls.values()}
    assert numbers == {
        "VERSION": 0xC0406400, "GEM_CLOSE": 0x40086409, "GET_PARAM": 0xC0106440,
        "GEM_NEW": 0xC0106442, "GEM_INFO": 0xC0106443, "GEM_CPU_PREP": 0x40186444,
        "GEM_CPU_FINI": 0x40086445, "GEM_SUBMIT": 0xC0486446, "WAIT_FENCE": 0x40206447,
        "GEM_USERPTR": 0xC0186448, "GEM_WAIT": 0x40206449, "PM_QUERY_DOM": 0xC048644A,
        "PM_QUERY_SIG": 0xC04C644B,
    }  # fmt: skip


def test_state_headers() -> None:
    """Ref: docs/hardware/etnaviv.md section 2.4."""
    assert states.header(states.PS.NN_INST_ADDR.offset) == 0x08010428
    assert states.header(states.GL.FLUSH_CACHE.offset) == 0x08010E03
    stream = cmdstream.begin()
    cmdstream.emit_tp(stream, [(0, 0), (1, 0), (2, 0)], 8)
    cmdstream.finish(stream)
    writes = [w for w in states.decode(stream.words) if isinstance(w, states.Write)]
    assert [w.value for w in writes if w.address == 0x3950] == [8, 8, 0]
    assert [w.value for w in writes if w.address == 0x380C] == [0xC23, 0xC23]
    assert all(a.offset < b.offset for a, b in pairwise(writes))
    assert "GL.FLUSH_CACHE" in str(writes[-1])


def test_words_that_are_no_state_are_reported() -> None:
    assert list(states.decode([0, 0x10000000])) == [states.BadWord(4, 0x10000000)]
    assert list(states.decode([0x08020428, 1])) == [states.BadWord(0, 0x08020428)]


@given(st.floats(-250, 250).filter(lambda r: abs(r) >= 1 / 250))
def test_weights_of_a_sum_fit_and_keep_the_ratio(ratio: float) -> None:
    one, other = weights_in_ratio(ratio)
    assert 0 <= one - min(other, 0) <= 255
    assert one <= 255 >= other
    if 0.01 <= abs(ratio) <= 100:
        assert abs(other - ratio * one) <= 0.006 * max(one, abs(other))
