"""Train the digits classifier of the package, quantise it, and write the .tflite files.

    python tools/train_digits.py [--out teflon/samples/data]

The files are the same each time: the seeds are fixed, and only numpy computes. The images are
scikit-learn's digits (1797 images of 8x8, without a download). Every fifth image is held out
(`teflon.samples.digits`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from digits_net import Adam, DigitsNet, Floats, cross_entropy
from digits_quantize import Variant, quantised_graph
from teflon.frontend.tflite import writer as tflite_writer
from teflon.samples import digits

EPOCHS = 80
BATCH = 64
SEED = 7


def shifted(images: Floats, random: np.random.Generator) -> Floats:
    """Return the images, moved at random by up to one pixel, with up to 15 % more or less light."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    dy, dx = random.integers(0, 3, (2, len(images)))
    rows = dy[:, None] + np.arange(8)
    columns = dx[:, None] + np.arange(8)
    moved = padded[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
    light = random.uniform(0.85, 1.15, (len(images), 1, 1, 1)).astype(np.float32)
    lit: Floats = np.clip(moved * light, 0, 1)
    return lit


def train(images: Floats, labels: np.ndarray[tuple[int], np.dtype[np.intp]]) -> DigitsNet:
    """Return the trained network."""
    random = np.random.default_rng(SEED)
    net = DigitsNet(SEED)
    optimizer = Adam(net.layers)
    for epoch in tqdm(range(EPOCHS), "train", unit="epoch", disable=None):
        rate = 8e-3 * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS)) + 1e-5
        for rows in np.array_split(random.permutation(len(images)), len(images) // BATCH):
            logits = net.forward(shifted(images[rows], random))
            _, gradient = cross_entropy(logits, labels[rows])
            net.backward(gradient)
            optimizer.step(rate)
    return net


def main(argv: list[str] | None = None) -> int:
    """Train, print the float accuracy, write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("teflon/samples/data"), metavar="FOLDER")
    options = parser.parse_args(argv)
    learn, held_out = digits.training_set(), digits.held_out_set()
    images = digits.as_float(learn.images)
    net = train(images, learn.labels)
    right = net.forward(digits.as_float(held_out.images)).argmax(1) == held_out.labels
    print(f"float: {right.mean():.2%} of {len(right)} held-out images")
    net.forward(images)
    ranges = {name: (float(x.min()), float(x.max())) for name, x in net.seen.items()}
    for variant in Variant:
        data = tflite_writer.write(quantised_graph(net, ranges, variant))
        path = options.out / f"digits_{variant.value}.tflite"
        path.write_bytes(data)
        print(f"{path}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
