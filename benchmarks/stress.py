"""Threads, models and open devices for a while, with faults: what is lost, what is leaked.

    python benchmarks/stress.py [--minutes 60] [--threads 8] [--chips rk3588 a311d]

For each chip, one program on a virtual board opens its node three times, loads three models into
each, and infers from several threads: by calls, queued, and with further models that come and go.
Rules for faults change all the time: requests fail, mappings fail, jobs come late or break off.
Every result must be right, bit for bit, or an error of the device. At the end the program infers
without faults. Then nothing may be left: no handle, no open file, no complaint on the board; no
mapping, descriptor, thread or memory in the program. Exit status 1 if something is lost or leaked.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from common import Row, show
from teflon.board.control import Control
from teflon.errors import DeviceError, DriverUnavailable
from teflon.ir.builder import Builder
from teflon.ir.text import to_text
from teflon.ir.types import Array
from teflon.run.runner import Runner
from teflon.samples.models import resolve

Infer = Callable[[dict[str, Array]], dict[str, Array]]

CLIENT = "--client"
CONTEXTS = 3
BROKEN_OFF = "as the board's rules for faults require"
"""What the board says of a job that our own rules broke off."""
LULL = 0.7
"""Seconds between two sets of rules; every other set has none."""

REQUESTS = {
    "rk3588": ("CREATE_BO", "SUBMIT", "PREP_BO", "FINI_BO"),
    "other": ("GEM_NEW", "GEM_INFO", "GEM_SUBMIT", "GEM_CPU_PREP", "GEM_CPU_FINI"),
}
COUNTED = ("inferences", "refused", "loads", "faults", "wrong", "raw errors", "stuck")
ERRORS = ("EIO", "ENOMEM", "EINTR", "ENODEV", "EBUSY", "ETIMEDOUT", "EINVAL", "EAGAIN")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a program on a board of each chip, and print the table."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == [CLIENT]:
        print(json.dumps(Stress(*given[1:]).run()))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3, help="in all (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=8, metavar="N")
    parser.add_argument("--chips", nargs="+", default=["rk3588", "a311d"], metavar="CHIP")
    parser.add_argument("--out", type=Path, default=Path("out") / "bench", metavar="FOLDER")
    options = parser.parse_args(given)
    options.device = ",".join(options.chips)
    seconds = 60 * options.minutes / len(options.chips)
    rows = [on_board(chip, seconds, options.threads) for chip in options.chips]
    show("Stress: threads, models and devices with faults", rows, options, "stress")
    return int(any(row["verdict"] != "nothing lost" for row in rows))


def on_board(chip: str, seconds: float, threads: int) -> Row:
    """Serve a board, run the program there, and judge what both say."""
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        root = Path(folder) / "board"
        words = [sys.executable, "-P", "-m", "teflon", "board", chip, "--serve", str(root)]
        board = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert board.stdout is not None
        lines = [board.stdout.readline() for _ in range(3)]
        exports = [line.split()[1].partition("=") for line in lines[1:]]
        environment = {**os.environ, **{name: value.strip("'") for name, _, value in exports}}
        client = [sys.executable, __file__, CLIENT, chip, str(root), str(seconds),
                  str(threads)]  # fmt: skip
        try:
            done = subprocess.run(
                client, env=environment, stdout=subprocess.PIPE, text=True, check=False,
                timeout=seconds + 300,
            )  # fmt: skip
            control = Control(root)
            (status,) = control.obey("status").values()
            control.close()
        finally:
            board.terminate()
            board.wait(30)
            board.stdout.close()
    if done.returncode:
        return {"chip": chip, "verdict": f"the program ended with status {done.returncode}"}
    return judged(chip, json.loads(done.stdout.splitlines()[-1]), status)


def judged(chip: str, found: dict[str, Any], status: dict[str, Any]) -> Row:
    """Return the row of a table: what happened, and what is lost."""
    lost = [f"{found[name]} {name}" for name in ("wrong", "raw errors", "stuck") if found[name]]
    lost += [f"{n} {name} left" for name, n in found["left"].items() if n > 0]
    lost += [f"{status[name]} {name} on the board" for name in ("files", "handles") if status[name]]
    lost += [text for text in status["complaints"] if BROKEN_OFF not in text]
    counts = {name: found[name] for name in ("inferences", "refused", "loads", "faults")}
    return {"chip": chip, **counts, "kinds of errors": found["kinds"],
            "blocks per late load": round(found["growth"]),
            "verdict": "; ".join(lost) or "nothing lost"}  # fmt: skip


def nets() -> list[bytes | Path]:
    """Return three models: one that ships, and two with an addition, pooling and fewer channels."""
    found: list[bytes | Path] = [resolve("digits_int8")]
    for number, channels in enumerate((5, 24)):
        rng = np.random.default_rng(number)
        b = Builder(f"stress{number}")
        x = b.input("x", "u8", (1, 16, 16, 8), 1 / 64, 3)
        weights = rng.integers(0, 256, (channels, 3, 3, 8), np.uint8)
        y = b.conv2d(x, weights, rng.integers(-500, 500, channels, np.int32), scale=1.0)
        z = b.conv2d(x, weights[::-1].copy(), np.zeros(channels, np.int32), scale=1.0)
        b.output(b.add(y, z, scale=2.0))
        found.append(to_text(b.build()).encode())
    return found


class Stress:
    """The program on the board."""

    def __init__(self, chip: str, root: str, seconds: str, threads: str) -> None:
        self.chip, self.seconds, self.threads = chip, float(seconds), int(threads)
        self.control = Control(Path(root))
        self.counts: collections.Counter[str] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()
        self.end = 0.0
        self.memory: list[tuple[int, int]] = []
        self.nets = nets()
        rng = np.random.default_rng(5)
        self.inputs: list[list[dict[str, Array]]] = []
        self.wanted: list[list[list[bytes]]] = []
        for net in self.nets:
            with teflon.load(net, f"sim:{chip}", cache="off") as model:
                given = [
                    {i.name: rng.integers(0, 256, i.shape, np.uint8).view(i.dtype)
                     for i in model.inputs} for _ in range(4)
                ]  # fmt: skip
                self.inputs.append(given)
                self.wanted.append([plain(model(one)) for one in given])

    def run(self) -> dict[str, Any]:
        """Work for the time, then without faults; return what happened."""
        self.control.obey("faults", rules=[])
        self.lives(1)  # what is made once: caches, threads of C loops
        before = resources()
        self.work()
        growth = self.lives(40)
        left = {name: n - before[name] for name, n in resources().items()}
        self.control.close()
        return {
            **{name: self.counts[name] for name in COUNTED}, "left": left, "growth": growth,
            "kinds": ", ".join(f"{n} {name}" for name, n in self.kinds.most_common()),
        }  # fmt: skip

    def work(self) -> None:
        """Open devices, work with faults until the end of the time, and once without."""
        self.end = time.monotonic() + self.seconds
        opened = [[self.load(net) for net in self.nets] for _ in range(CONTEXTS)]
        works: list[Callable[[], None]] = [self.come_and_go]
        works += [partial(self.infer, opened, seed) for seed in range(self.threads - 1)]
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        self.break_requests()
        for thread in threads:
            thread.join(120)
        self.counts["stuck"] = sum(thread.is_alive() for thread in threads)
        self.control.obey("faults", rules=[])
        for context in opened:
            for number, model in enumerate(context):
                self.check(number, 0, model, refusal=False)
                model.close()

    def load(self, net: bytes | Path) -> Runner:
        while True:
            try:
                model = teflon.load(net, "auto", cache="off")
            except (DeviceError, DriverUnavailable) as error:
                self.note("refused", error)
            else:
                self.note("loads")
                return model

    def infer(self, opened: list[list[Runner]], seed: int) -> None:
        """Infer with any model that is open: call it, queue it, map it."""
        choose = random.Random(seed)
        while time.monotonic() < self.end:
            number = choose.randrange(len(self.nets))
            model = choose.choice(opened)[number]
            ways: list[Infer] = [model, partial(queued, model, seed), partial(mapped, model)]
            self.check(number, choose.randrange(4), choose.choice(ways))

    def check(
        self, number: int, given: int, run: Infer,
        refusal: bool = True,
    ) -> None:  # fmt: skip
        """Run an inference: the right bits, or an error of the device."""
        try:
            found = plain(run(self.inputs[number][given]))
        except DeviceError as error:
            self.note("refused" if refusal else "raw errors", error)
        except Exception as error:
            self.note("raw errors", error)
        else:
            self.note("inferences" if found == self.wanted[number][given] else "wrong")

    def come_and_go(self) -> None:
        """Load models and close them, also in the middle of their inferences."""
        number = 0
        while time.monotonic() < self.end:
            number = (number + 1) % len(self.nets)
            model = self.load(self.nets[number])
            try:
                futures = [model.submit(self.inputs[number][n]) for n in range(3)]
                self.check(number, 0, partial(first, futures))
                model.close()
            except DeviceError as error:
                self.note("refused", error)
                model.close()

    def break_requests(self) -> None:
        """Set other rules all the time."""
        choose = random.Random(7)
        names = (*REQUESTS.get(self.chip, REQUESTS["other"]), "MMAP", "OPEN")
        while time.monotonic() < self.end:
            rules = [
                f"{name}:{choose.randint(1, 40)}:{choose.choice(ERRORS)}:{choose.randint(1, 3)}"
                for name in choose.sample(names, 3)
            ]
            rules.append(f"JOB:{choose.randint(1, 30)}:{choose.choice(['BREAK', '+0.05'])}")
            self.control.obey("faults", rules=rules)
            self.note("faults", count=len(rules))
            time.sleep(LULL)
            self.control.obey("faults", rules=[])
            time.sleep(LULL)

    def lives(self, count: int) -> float:
        """Load, run and close a model often; return how many allocated blocks a late life left.

        The smallest growth of a quarter counts: what is made once grows in one of them.
        """
        seen = []
        for number in range(count):
            for net, given in zip(self.nets, self.inputs, strict=True):
                with self.load(net) as model:
                    model(given[0])
            if count >= 4 and (number + 1) % (count // 4) == 0:
                gc.collect()
                seen.append(sys.getallocatedblocks())
        quarters = [after - before for before, after in pairwise(seen)]
        return 4 * min(quarters, default=0) / count

    def note(self, name: str, error: Exception | None = None, count: int = 1) -> None:
        with self.lock:
            self.counts[name] += count
            if error is not None:
                self.kinds[type(error).__name__] += 1
                if name == "raw errors":
                    sys.stderr.write(f"{type(error).__name__}: {error}\n")


def queued(model: Runner, stream: int, given: dict[str, Array]) -> dict[str, Array]:
    """Infer by way of the queue."""
    return model.submit(given, stream=stream).result(60)


def mapped(model: Runner, given: dict[str, Array]) -> dict[str, Array]:
    """Infer twice by `map`, and return the second result."""
    return list(model.map([given] * 2))[1]


def first(futures: Sequence[Future[dict[str, Array]]], _: object) -> dict[str, Array]:
    """Return what the first inference of a queue gives."""
    return futures[0].result(60)


def plain(outputs: dict[str, Array]) -> list[bytes]:
    """Return the bytes of all outputs."""
    return [array.tobytes() for array in outputs.values()]


def resources() -> dict[str, int]:
    """Return how many things of the device this process has."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mappings of buffers": maps.count("memfd:") + maps.count("/dev/"),
        "threads": threading.active_count(),
    }


if __name__ == "__main__":
    sys.exit(main())
