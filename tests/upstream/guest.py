"""Runs models in the delegate, each in a process of its own. Needs numpy and tflite-runtime only.

    python guest.py DELEGATE

Reads one order a line, {"model": FILE, "inputs": FILE, "into": FOLDER}, and writes one answer a
line: the exit status of the model's process (negative: the signal that ended it). That process is
forked after the imports, which take seconds under emulation. In the folder it leaves `log` (all
that was printed), `outputs.npz` (tensors by number) and `about.json`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main(delegate: str) -> None:
    """Answer orders until there are no more."""
    numpy = importlib.import_module("numpy")
    runtime = importlib.import_module("tflite_runtime.interpreter")
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            _child(numpy, runtime, delegate, order)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def _child(numpy: Any, runtime: Any, delegate: str, order: dict[str, str]) -> None:
    """Run one model and end the process."""
    into = Path(order["into"])
    log = os.open(into / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        _run(numpy, runtime, delegate, order, into)
        code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        code = 1
    os._exit(code)


def _run(numpy: Any, runtime: Any, delegate: str, order: dict[str, str], into: Path) -> None:
    times = [time.monotonic()]
    loaded = runtime.load_delegate(delegate)
    times.append(time.monotonic())
    interpreter = runtime.Interpreter(
        order["model"],
        experimental_delegates=[loaded],
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    times.append(time.monotonic())
    with numpy.load(order["inputs"]) as inputs:
        for index in inputs.files:
            interpreter.set_tensor(int(index), inputs[index])
    interpreter.invoke()
    times.append(time.monotonic())
    runs = [op for op in interpreter._get_ops_details() if "DELEGATE" in op["op_name"].upper()]
    partitions = [[int(i) for i in op["outputs"]] for op in runs]
    outputs = [int(detail["index"]) for detail in interpreter.get_output_details()]
    wanted = {*outputs, *(index for ends in partitions for index in ends)}
    read = {str(index): interpreter.get_tensor(index) for index in wanted}
    numpy.savez(into / "outputs.npz", **read)
    seconds = {
        name: times[n + 1] - times[n] for n, name in enumerate(("load", "prepare", "invoke"))
    }
    about = {"partitions": partitions, "seconds": seconds}
    (into / "about.json").write_text(json.dumps(about))
    del interpreter
    del loaded


if __name__ == "__main__":
    main(sys.argv[1])
