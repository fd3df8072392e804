"""Signal-to-noise ratios and agreement, on made-up models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from teflon.errors import ModelError
from teflon.ir.types import Array
from teflon.quantize.changes import Layer, measure
from teflon.quantize.tensors import Sample


class Fake:
    """Hands on its input, times a factor, with an error."""

    layers = (Layer("a", "CONV_2D"), Layer("only", "ADD"))
    outputs = ("y",)

    def __init__(self, off: float, names: Sequence[str], size: int = 4) -> None:
        self.off, self.names, self.size = off, names, size

    def run(self, sample: Sample) -> tuple[Mapping[str, Array], Sequence[Array]]:
        x = sample["x"] + self.off
        return dict.fromkeys(self.names, x), [x[:, : self.size]]


def test_noise_is_summed_over_samples_and_layers_of_one_model_are_left_out() -> None:
    rng = np.random.default_rng(0)
    samples = [{"x": rng.normal(size=(1, 4)).astype(np.float32)} for _ in range(8)]
    found = measure(Fake(0, ["a", "only"]), Fake(0.01, ["a"]), samples)
    power = sum(float(np.square(s["x"].astype(np.float64)).sum()) for s in samples)
    (layer,) = found.layers
    assert layer.name == "a"
    assert found.layers[layer].decibels == pytest.approx(
        10 * math.log10(power / (32 * 1e-4)), abs=1e-3
    )
    (out,) = found.outputs
    assert (out.classes, out.same_top, found.samples) == (4, 8, 8)
    assert out.noise.largest == pytest.approx(0.01, rel=1e-4)
    told = found.as_dict()
    assert told["outputs"][0]["top1_agreement"] == 1
    assert told["outputs"][0]["mean_difference"] == pytest.approx(0.01, rel=1e-4)


def test_another_best_class_is_counted() -> None:
    class Other(Fake):
        def run(self, sample: Sample) -> tuple[Mapping[str, Array], Sequence[Array]]:
            return {}, [-sample["x"]]

    samples = [{"x": np.array([[0.0, 1.0, 2.0]])}, {"x": np.array([[1.0, 1.0, 1.0]])}]
    found = measure(Fake(0, ["a"]), Other(0, []), samples)
    assert (found.outputs[0].same_top, found.layers) == (1, {})


def test_an_exact_layer_is_null_in_json() -> None:
    found = measure(Fake(0, ["a"]), Fake(0, ["a"]), [{"x": np.ones((1, 4))}])
    assert found.as_dict()["layers"] == [{"name": "a", "kind": "CONV_2D", "sqnr_db": None}]
    assert next(iter(found.layers.values())).decibels == math.inf
    silent = measure(Fake(0, ["a"]), Fake(1, ["a"]), [{"x": np.zeros((1, 4))}])
    assert next(iter(silent.layers.values())).decibels == -math.inf


def test_other_outputs_are_refused() -> None:
    with pytest.raises(ModelError, match="other outputs"):
        measure(Fake(0, ["a"]), Fake(0, ["a"], size=3), [{"x": np.ones((1, 4))}])
