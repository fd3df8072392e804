"""The main line on real input: file to result on every simulated chip, beside the reference.

The chips round otherwise than TFLite's kernels do, by at most one step for one operation; what
that adds up to over a network is bounded here for real photos.
"""

from __future__ import annotations

import functools
import importlib.resources
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon.compile.source import read_graph
from teflon.inspect.compare import compare
from teflon.ir import Array, Value
from teflon.samples import digits
from teflon.samples.detection import Detection, detections
from teflon.samples.images import read_image, to_input
from tests.paths import GOLDEN, MODELS, needs_shared


@dataclass(frozen=True)
class Chip:
    """What a simulated chip is held to.

    layers: tensors compared in MobileNetV1, MobileDet, YOLOX; score: how far MobileDet's may be
    off (a score is one of 256 steps of a sigmoid, behind some sixty layers of one step each).
    """

    name: str
    layers: tuple[int, int, int]
    score: float
    edge: float  # how far a box's edges may be apart, as a share of the picture

    @property
    def spec(self) -> str:
        return f"sim:{self.name}"


CHIPS = (
    Chip("rk3588", (30, 109, 114), 0.03, 0.015),
    Chip("a311d", (30, 124, 122), 0.07, 0.02),
    Chip("s905d3", (30, 124, 122), 0.07, 0.02),
    Chip("imx8mp", (30, 124, 122), 0.07, 0.02),
)
every_chip = pytest.mark.parametrize("chip", CHIPS, ids=[c.name for c in CHIPS])
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


@functools.cache
def reference_outputs(name: str) -> list[list[Array]]:
    """Return the outputs of a model in the reference arithmetic, for every photo."""
    assert MODELS is not None
    with teflon.load(MODELS / f"{name}.tflite", device="cpu") as model:
        return [model.run(to_input(read_image(p), model.graph.inputs[0].type)) for p in photos()]


def results(name: str, chip: Chip) -> list[tuple[list[Array], list[Array]]]:
    """Return (simulated, reference) outputs for every photo."""
    assert MODELS is not None
    with teflon.load(MODELS / f"{name}.tflite", device=chip.spec) as model:
        given = [to_input(read_image(p), model.graph.inputs[0].type) for p in photos()]
        return list(zip([model.run(x) for x in given], reference_outputs(name), strict=True))


def ranking(scores: Array) -> list[int]:
    order: list[int] = np.argsort(-scores.astype(int), kind="stable").tolist()
    return order


@needs_shared
@every_chip
def test_mobilenet_knows_the_same_things_in_photos(chip: Chip) -> None:
    """The first class is the same; the others of the top five too, but for ties of 3/256."""
    for (mine,), (reference,) in results(MOBILENET, chip):
        ours, theirs = ranking(mine[0]), ranking(reference[0])
        assert ours[0] == theirs[0]
        ranks = zip(ours[:5], theirs[:5], strict=True)
        assert all(abs(int(reference[0, a]) - int(reference[0, b])) <= 3 for a, b in ranks)


@needs_shared
@every_chip
def test_mobiledet_finds_the_same_objects_in_photos(chip: Chip) -> None:
    """What either finds with a score of 0.42 the other finds too: class, edges within the chip's
    bound, and IoU above 0.95 where it covers at least 0.5 % of the picture (a bird of three by
    three pixels in a temple's roof has no such overlap with itself one pixel further).
    """
    count = 0
    for outputs in results(MOBILEDET, chip):
        mine, reference = (detections(o, 0.0) for o in outputs)
        for one, others in [(d, reference) for d in mine] + [(d, mine) for d in reference]:
            if one.score < 0.42:
                continue
            best = max((o for o in others if o.label == one.label), key=one.iou)
            assert edges_apart(one, best) < chip.edge
            assert abs(one.score - best.score) < chip.score
            assert one.area < 0.005 or one.iou(best) > 0.95
            count += 1
    assert count >= 12


def edges_apart(a: Detection, b: Detection) -> float:
    pairs = ((a.top, b.top), (a.left, b.left), (a.bottom, b.bottom), (a.right, b.right))
    return max(abs(x - y) for x, y in pairs)


@needs_shared
@every_chip
def test_yolox_heads_stay_close_in_photos(chip: Chip) -> None:
    """98 % of all outputs are within two steps of the reference, on average within 0.2 steps."""
    for mine, reference in results(YOLOX, chip):
        for one, other in zip(mine, reference, strict=True):
            steps = np.abs(one.astype(int) - other.astype(int))
            assert (steps > 2).mean() < 0.02
            assert steps.mean() < 0.2


@needs_shared
@every_chip
@pytest.mark.parametrize("name", [MOBILENET, MOBILEDET, YOLOX])
def test_every_layer_is_within_one_step_of_its_reference(name: str, chip: Chip) -> None:
    """In the whole network's own program, on the input that the layer had there."""
    assert MODELS is not None
    graph = read_graph(MODELS / f"{name}.tflite")
    photo = to_input(read_image(photos()[0]), graph.inputs[0].type)
    found = compare(graph, [photo], chip.spec)
    assert [layer for layer in found.layers if layer.steps > 1] == []
    assert (
        len(found.layers)
        == dict(zip((MOBILENET, MOBILEDET, YOLOX), chip.layers, strict=True))[name]
    )


@needs_shared
@pytest.mark.parametrize("kind", ["add", "conv", "dw", "fc", "mb", "mobiledet"])
def test_single_operations_are_within_one_step_on_rk3588(kind: str) -> None:
    """The models beside the recordings, uint8 and int8; what stays on the CPU is counted too."""
    assert GOLDEN is not None
    random = np.random.default_rng(7)
    wrong, ran = [], 0
    for path in sorted((GOLDEN / "models").glob(f"{kind}[-_]*.tflite")):
        graph = read_graph(path)
        found = compare(graph, [_random(random, v) for v in graph.inputs], CHIPS[0].spec)
        wrong += [(path.stem, layer) for layer in found.layers if layer.steps > 1]
        ran += bool(found.layers)
    assert wrong == []
    assert ran == {"add": 17, "conv": 122, "dw": 53, "fc": 7, "mb": 30, "mobiledet": 62}[kind]


def _random(random: np.random.Generator, value: Value) -> Array:
    low, high = value.type.dtype.range
    return random.integers(low, high, value.shape, value.type.dtype.numpy, endpoint=True)


@every_chip
@pytest.mark.parametrize("variant", ["uint8", "int8"])
def test_threads_share_one_simulated_device(variant: str, chip: Chip) -> None:
    pytest.importorskip("sklearn")
    path = Path(str(importlib.resources.files("teflon.samples") / f"data/digits_{variant}.tflite"))
    images = digits.as_input(digits.held_out_set().images[:48], variant)
    with teflon.load(path, device=chip.spec) as model, ThreadPoolExecutor(4) as pool:
        one_by_one = [model.run(image[None])[0].tolist() for image in images]
        at_once = list(pool.map(lambda image: model.run(image[None])[0].tolist(), images))
        totals = model.report().totals()
    assert at_once == one_by_one
    assert sum(n for name, n in totals["operations"].items() if chip.name in name) >= 3
