"""native/product.h: the loop for any processor and the fast one, against numpy."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paths import ROOT

COMPILER = shutil.which(os.environ.get("CC", "cc"))
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc)")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("product") / "product.so"
    source: Path = ROOT / "tests/ir/product.c"
    options = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = [str(COMPILER), *options, f"-I{ROOT / 'native'}", "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


def pointer(array: np.ndarray[Any, Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("fast", [0, 1])
@settings(max_examples=40)
@given(
    st.integers(1, 6),
    st.lists(st.integers(0, 40), min_size=1, max_size=9),
    st.integers(1, 20),
    st.sampled_from([255, 1 << 15]),
    st.integers(0, 99),
)
def test_sums(
    library: ctypes.CDLL, fast: int, count: int, taps: list[int], pairs: int, most: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(-most, most, 200, np.int16)
    weights = rng.integers(-most, most, (len(taps), pairs, 16, 2), np.int16)
    weights[0], image[:2] = -most if seed % 3 == 0 else weights[0], -most
    pixels = rng.integers(0, 100, count)
    seen = np.array([[image[p + t : p + t + 2 * pairs] for t in taps] for p in pixels])
    exact = np.einsum(
        "rtkv,tknv->rn", seen.reshape(count, len(taps), pairs, 2).astype(np.int64), weights
    )
    out = np.zeros((count, 16), np.int32)
    where = np.array(taps, np.intp)
    library.multiply(
        fast, pointer(image), pointer(pixels.astype(np.intp)), count, pointer(where),
        ctypes.c_ssize_t(len(taps)), ctypes.c_ssize_t(2 * pairs), pointer(weights), pointer(out),
    )  # fmt: skip
    np.testing.assert_array_equal(out, exact.astype(np.int32))


def test_x86_has_a_fast_loop(library: ctypes.CDLL) -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or " avx2 " not in flags.read_text():
        pytest.skip("this processor has no AVX2")
    assert library.fast_is_here() == 1
