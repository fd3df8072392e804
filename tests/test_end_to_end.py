"""The main line on real input: file to result on the simulated RK3588, beside the reference.

The chip rounds otherwise than TFLite's kernels do, by at most one step for one operation; what
that adds up to over a network is bounded here for real photos.
"""

from __future__ import annotations

import importlib.resources
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon import digits
from teflon.compare import compare
from teflon.detection import Detection, detections
from teflon.images import read_image, to_input
from teflon.ir import Array, Value
from teflon.loading import load_graph
from teflon.runtime import Model
from tests.paths import GOLDEN, MODELS, needs_shared

SPEC = "sim:rk3588"
MOBILENET = "mobilenet_v1_1.0_224_quant"
MOBILEDET = "ssdlite_mobiledet_coco_qat_postprocess"
YOLOX = "yolox"


def photos() -> list[Path]:
    """Photos that packages ship: a portrait, a temple, a flower."""
    found = []
    for package, name in (
        ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
        ("sklearn.datasets", "images/china.jpg"),
        ("sklearn.datasets", "images/flower.jpg"),
    ):
        pytest.importorskip(package)
        found.append(Path(str(importlib.resources.files(package) / name)))
    return found


def both(name: str) -> tuple[Model, Model]:
    assert MODELS is not None
    path = MODELS / f"{name}.tflite"
    return teflon.load(path, device=SPEC), teflon.load(path, device="cpu")


def results(name: str) -> list[tuple[list[Array], list[Array]]]:
    """Return (simulated, reference) outputs for every photo."""
    simulated, reference = both(name)
    with simulated, reference:
        given = [to_input(read_image(p), simulated.graph.inputs[0].type) for p in photos()]
        return [(simulated.run(x), reference.run(x)) for x in given]


def ranking(scores: Array) -> list[int]:
    order: list[int] = np.argsort(-scores.astype(int), kind="stable").tolist()
    return order


@needs_shared
def test_mobilenet_knows_the_same_things_in_photos() -> None:
    """The first class is the same; the others of the top five too, but for ties of 3/256."""
    for (mine,), (reference,) in results(MOBILENET):
        ours, theirs = ranking(mine[0]), ranking(reference[0])
        assert ours[0] == theirs[0]
        ranks = zip(ours[:5], theirs[:5], strict=True)
        assert all(abs(int(reference[0, a]) - int(reference[0, b])) <= 3 for a, b in ranks)


@needs_shared
def test_mobiledet_finds_the_same_objects_in_photos() -> None:
    """What either finds with a score of 0.42 the other finds too: class, edges within 1.5 % of
    the picture, and IoU above 0.95 where it covers at least 0.5 % of it (a bird of three by three
    pixels in a temple's roof has no such overlap with itself one pixel further).
    """
    count = 0
    for outputs in results(MOBILEDET):
        mine, reference = (detections(o, 0.0) for o in outputs)
        for one, others in [(d, reference) for d in mine] + [(d, mine) for d in reference]:
            if one.score < 0.42:
                continue
            best = max((o for o in others if o.label == one.label), key=one.iou)
            assert edges_apart(one, best) < 0.015
            assert abs(one.score - best.score) < 0.03
            assert one.area < 0.005 or one.iou(best) > 0.95
            count += 1
    assert count >= 12


def edges_apart(a: Detection, b: Detection) -> float:
    pairs = ((a.top, b.top), (a.left, b.left), (a.bottom, b.bottom), (a.right, b.right))
    return max(abs(x - y) for x, y in pairs)


@needs_shared
def test_yolox_heads_stay_close_in_photos() -> None:
    """98 % of all outputs are within two steps of the reference, on average within 0.2 steps."""
    for mine, reference in results(YOLOX):
        for one, other in zip(mine, reference, strict=True):
            steps = np.abs(one.astype(int) - other.astype(int))
            assert (steps > 2).mean() < 0.02
            assert steps.mean() < 0.2


@needs_shared
@pytest.mark.parametrize(("name", "layers"), [(MOBILENET, 28), (MOBILEDET, 93), (YOLOX, 83)])
def test_every_layer_is_within_one_step_of_its_reference(name: str, layers: int) -> None:
    """In the whole network's own program, on the input that the layer had there."""
    assert MODELS is not None
    graph = load_graph(MODELS / f"{name}.tflite")
    photo = to_input(read_image(photos()[0]), graph.inputs[0].type)
    found = compare(graph, [photo], SPEC)
    assert [layer for layer in found.layers if layer.steps > 1] == []
    assert len(found.layers) == layers


@needs_shared
@pytest.mark.parametrize("kind", ["add", "conv", "dw", "fc", "mb", "mobiledet"])
def test_single_operations_are_within_one_step(kind: str) -> None:
    """The models beside the recordings, uint8 and int8; what stays on the CPU is counted too."""
    assert GOLDEN is not None
    random = np.random.default_rng(7)
    wrong, ran = [], 0
    for path in sorted((GOLDEN / "models").glob(f"{kind}[-_]*.tflite")):
        graph = load_graph(path)
        found = compare(graph, [_random(random, v) for v in graph.inputs], SPEC)
        wrong += [(path.stem, layer) for layer in found.layers if layer.steps > 1]
        ran += bool(found.layers)
    assert wrong == []
    assert ran == {"add": 17, "conv": 122, "dw": 53, "fc": 7, "mb": 28, "mobiledet": 60}[kind]


def _random(random: np.random.Generator, value: Value) -> Array:
    low, high = value.type.dtype.range
    return random.integers(low, high, value.shape, value.type.dtype.numpy, endpoint=True)


@pytest.mark.parametrize("variant", ["uint8", "int8"])
def test_threads_share_one_simulated_device(variant: str) -> None:
    pytest.importorskip("sklearn")
    path = Path(str(importlib.resources.files("teflon") / f"data/digits_{variant}.tflite"))
    images = digits.as_input(digits.held_out_set().images[:48], variant)
    with teflon.load(path, device=SPEC) as model, ThreadPoolExecutor(4) as pool:
        one_by_one = [model.run(image[None])[0].tolist() for image in images]
        at_once = list(pool.map(lambda image: model.run(image[None])[0].tolist(), images))
        totals = model.report().totals()
    assert at_once == one_by_one
    assert totals["operations"]["rocket rk3588"] >= 3
