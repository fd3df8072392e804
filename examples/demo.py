"""Run real models on simulated NPUs, and compare them with the CPU reference.

    python examples/demo.py [--device sim:rk3588] [--out out]

The demo needs scikit-learn (for the digits) and matplotlib (for the pictures, and a photo that
comes with it). It also runs MobileNetV1, MobileDet and YOLOX if `teflon models` finds them
(downloaded, or in TEFLON_MODELS).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

import teflon
from teflon.cli.classify import read_labels, top
from teflon.errors import TeflonError
from teflon.ir.types import Array
from teflon.run.runner import Runner
from teflon.samples import digits, images, models
from teflon.samples.detection import Detection, detections, draw, label_of

COLUMNS, ROWS = 8, 4
DEVICES = ("sim:rk3588", "sim:a311d", "sim:imx8mp")
DIGITS = ("digits_int8", "digits_uint8")


def main() -> int:
    """Run every part; return 1 if one fails."""
    parser = argparse.ArgumentParser(description="real models on simulated NPUs")
    parser.add_argument(
        "--device",
        action="append",
        metavar="SPEC",
        help=f"may be given several times; default: {', '.join(DEVICES)}",
    )
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    devices = options.device or list(DEVICES)
    try:
        show_digits(devices, options.out)
        show_photo(devices)
        show_boxes(devices[0], options.out)
        show_yolox(devices[0])
    except TeflonError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    return 0


def show_digits(devices: list[str], out: Path) -> None:
    """Classify all held-out digits on each device and on the reference, and draw some of them."""
    held_out = digits.held_out_set()
    print(f"Digits: {len(held_out.labels)} handwritten digits that were held out of the training")
    for name in DIGITS:
        path = models.resolve(name)
        with teflon.load(path, "cpu") as cpu:
            inputs = digits.as_input(held_out.images, cpu.inputs[0].dtype)
            theirs, cpu_ms = _run_all(cpu, inputs, f"{name} on cpu")
        print(f"  {name}")
        print(f"    reference  {_right(theirs, held_out.labels)}, {cpu_ms:.1f} ms an image")
        for device in devices:
            with teflon.load(path, device) as npu:
                ours, npu_ms = _run_all(npu, inputs, f"{name} on {device}")
                print(f"    {device:<10} {_right(ours, held_out.labels)}, {npu_ms:.1f} ms an image")
                _print_agreement(npu, ours, theirs)
            if (name, device) == (DIGITS[0], devices[0]):
                picture = _draw_digits(held_out, ours, out / "digits.png")
    print(f"  picture: {picture}\n")


def _run_all(model: Runner, inputs: Array, what: str) -> tuple[Array, float]:
    """Return all answers [N, 10], and the milliseconds of one inference."""
    start = time.perf_counter()
    bar = tqdm(inputs, what, unit="image", delay=1.0, disable=None, leave=False)
    answers = np.concatenate([model.run(image[None])[0] for image in bar])
    return answers, (time.perf_counter() - start) / len(inputs) * 1e3


def _right(answers: Array, labels: npt.NDArray[np.intp]) -> str:
    right = int((answers.argmax(1) == labels).sum())
    return f"{right / len(labels):.2%} right ({right} of {len(labels)})"


def _print_agreement(model: Runner, ours: Array, theirs: Array) -> None:
    same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    steps = int(np.abs(ours.astype(int) - theirs.astype(int)).max())
    print(f"      same digit for {same}; scores differ by at most {steps} of 255 steps")
    print(f"      {_work(model)}")


def _work(model: Runner) -> str:
    """Return a line about the work of the device."""
    report = model.report().as_dict()
    device = report["devices"][0]
    totals = report["totals"]
    mine = [p for p in report["partitions"] if p["device"] == device]
    sums: Counter[str] = Counter()
    for part in mine:
        sums.update(part["statistics"])
    operations = sum(totals["operations"].values())
    partitions = f"{len(mine)} partition{'s' if len(mine) != 1 else ''}"
    return (
        f"{totals['operations'].get(device, 0)} of {operations} operations on {device}:"
        f" {partitions}, {sums['jobs']} jobs, {sums['tasks']} tasks,"
        f" {sums['command_words']} command words"
    )


def _draw_digits(held_out: digits.Digits, answers: Array, path: Path) -> Path:
    """Draw some digits with the NPU's answers: first the wrong ones, then the others in order."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    guesses = answers.argmax(1)
    order = np.argsort(guesses == held_out.labels, kind="stable")[: COLUMNS * ROWS]
    figure, axes = pyplot.subplots(ROWS, COLUMNS, figsize=(COLUMNS, ROWS * 1.25))
    for axis, number in zip(axes.flat, order, strict=True):
        guess, truth = int(guesses[number]), int(held_out.labels[number])
        axis.imshow(held_out.images[number, :, :, 0], cmap="gray_r")
        text = str(guess) if guess == truth else f"{guess}, is {truth}"
        axis.set_title(text, color="black" if guess == truth else "#c00000", fontsize=11)
        axis.axis("off")
    figure.suptitle("Held-out digits and what the simulated NPU says: every mistake comes first")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def photo() -> Image.Image:
    """Return the portrait of Grace Hopper that comes with matplotlib."""
    import matplotlib as mpl

    return images.read_image(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg")


def _compared(path: Path, device: str) -> tuple[list[Array], list[Array], str, float]:
    """Return the outputs of device and reference, a line about the work, and the seconds."""
    with teflon.load(path, device) as npu, teflon.load(path, "cpu") as cpu:
        value = npu.graph.inputs[0]
        array = images.to_input(photo(), value.type, name=value.name)
        start = time.perf_counter()
        ours = npu.run(array)
        seconds = time.perf_counter() - start
        return ours, cpu.run(array), _work(npu), seconds


def _find(name: str) -> Path | None:
    path = models.find(name)
    if path is None:
        print(f"{name}: not on this machine, left out (teflon models fetch {name})\n")
    return path


def show_photo(devices: list[str]) -> None:
    """Print the five best classes of the photo, by MobileNetV1 on each device and the reference."""
    path, labels_file = _find("mobilenet_v1"), models.find("mobilenet_v1_labels")
    if path is None:
        return
    labels = read_labels(labels_file)
    print("MobileNetV1: a photo of Grace Hopper, top five")
    for device in devices:
        ours, theirs, work, seconds = _compared(path, device)
        print(f"    {device:<32}reference")
        for (score, number), (other, wanted) in zip(top(ours[0]), top(theirs[0]), strict=True):
            mine = f"{score:.3f} {label_of(number, labels)}"
            print(f"    {mine:<32}{other:.3f} {label_of(wanted, labels)}")
        print(f"    {work}")
        print(f"    simulated in {seconds:.2f} s\n")


def show_boxes(device: str, out: Path) -> None:
    """Find objects with MobileDet on a device and on the reference, and draw the device's boxes."""
    path, labels_file = _find("mobiledet"), models.find("coco_labels")
    if path is None:
        return
    labels = read_labels(labels_file)
    ours, theirs, work, seconds = _compared(path, device)
    mine, wanted = detections(ours, 0.4), detections(theirs, 0.4)
    print("MobileDet: objects in the same photo")
    for box in mine:
        same = [other for other in wanted if other.label == box.label]
        best = max((box.iou(other) for other in same), default=0.0)
        name = label_of(box.label, labels)
        print(f"    {box.score:.3f} {name:<16} overlaps the reference's box by {best:.1%}")
    print(f"    the reference finds {_names(wanted, labels)}")
    print(f"    {work}")
    print(f"    simulated in {seconds:.2f} s")
    picture = out / "mobiledet.png"
    draw(photo(), mine, labels).save(picture)
    print(f"  picture: {picture}\n")


def _names(found: list[Detection], labels: list[str]) -> str:
    return ", ".join(f"{label_of(d.label, labels)} {d.score:.3f}" for d in found) or "nothing"


def show_yolox(device: str) -> None:
    """Compare the raw outputs of YOLOX. The scores of this public file are too flat for boxes."""
    path = _find("yolox")
    if path is None:
        return
    ours, theirs, work, seconds = _compared(path, device)
    apart = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(ours, theirs, strict=True)]
    largest = max(int(a.max()) for a in apart)
    equal = sum(int((a == 0).sum()) for a in apart) / sum(a.size for a in apart)
    print("YOLOX: raw heads for the same photo")
    print(f"    {equal:.2%} of the values equal the reference's, the farthest is {largest} of 255")
    print(f"    {work}")
    print(f"    simulated in {seconds:.2f} s\n")


if __name__ == "__main__":
    sys.exit(main())
