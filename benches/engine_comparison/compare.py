#!/usr/bin/env python3
"""Runs networks with ONNX Runtime, tract and rten, one thread each, and prints one table.

    pip install -r requirements.txt
    cargo build --release
    python compare.py [--seconds S] [--program target/release/engine-comparison] FILE.onnx...

Times are the shortest of many runs, in turns. Inputs are random. The expected outputs, to which the others are compared, are those of ONNX Runtime. Free extents
are 1, but those of --extent NAME=N.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).resolve().parent
TYPES = {"tensor(float)": ("FP32", np.float32), "tensor(int64)": ("INT64", np.int64), "tensor(int32)": ("INT32", np.int32)}
LIMIT = 300  # seconds, of one network with one program


def inputs_of(session, extents):
    rng = np.random.default_rng(0)
    inputs = {}
    for each in session.get_inputs():
        shape = [extent if isinstance(extent, int) else extents.get(extent, 1) for extent in each.shape]
        _, kind = TYPES[each.type]
        whole = np.issubdtype(kind, np.integer)
        inputs[each.name] = (rng.integers(0, 200, shape) if whole else rng.standard_normal(shape)).astype(kind)
    return inputs


def onnx_runtime(path, extents, seconds):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    begin = time.perf_counter()
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - begin
    inputs = inputs_of(session, extents)
    names = [each.name for each in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, inputs)))
    return inputs, outputs, load, lambda: timed(lambda: session.run(names, inputs), seconds / 2)


def timed(run, seconds):
    times, deadline = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < deadline:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


def tensors(arrays):
    kinds = {"float32": "FP32", "int64": "INT64", "int32": "INT32"}
    return [{"name": name, "datatype": kinds[array.dtype.name], "shape": list(array.shape),
             "data": array.ravel().tolist()} for name, array in arrays.items()]


def rust(program, path, inputs, outputs, seconds):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as case:
        json.dump({"inputs": tensors(inputs), "outputs": tensors(outputs)}, case)
        case.flush()
        try:
            done = subprocess.run([program, path, case.name, "--seconds", str(seconds)], capture_output=True,
                                  text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return {name: {"error": f"not done after {LIMIT} s"} for name in ("tract", "rten")}
    if done.returncode != 0:
        return {name: {"error": done.stderr.strip()[-200:]} for name in ("tract", "rten")}
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0, help="that each engine is measured")
    parser.add_argument("--program", default=HERE / "target/release/engine-comparison")
    parser.add_argument("--extent", action="append", default=[], metavar="NAME=N")
    arguments = parser.parse_args()
    extents = {name: int(extent) for name, extent in (each.split("=") for each in arguments.extent)}
    print("| network | ONNX Runtime µs | tract µs | rten µs | tract / ONNX Runtime | rten / ONNX Runtime "
          "| load ms: ONNX Runtime, tract, rten | difference: tract, rten |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    failures = []
    for path in arguments.file:
        inputs, outputs, load, measure = onnx_runtime(path, extents, arguments.seconds)
        times = measure()  # before the others and after them, so that what else runs meets all alike
        found = rust(arguments.program, path, inputs, outputs, arguments.seconds)
        yardstick = min(times + measure()) * 1e6
        for engine, result in found.items():
            if "error" in result:
                failures.append(f"{path.stem}, {engine}: {result['error']}")
        value = lambda engine, key, form: format(found[engine][key], form) if key in found[engine] else "–"
        ratio = lambda engine: format(found[engine]["shortest_us"] / yardstick, ".2f") if "shortest_us" in found[engine] else "–"
        print(f"| {path.stem} | {yardstick:,.1f} | {value('tract', 'shortest_us', ',.1f')} | {value('rten', 'shortest_us', ',.1f')} "
              f"| {ratio('tract')} | {ratio('rten')} "
              f"| {load * 1e3:.1f}, {value('tract', 'load_ms', '.1f')}, {value('rten', 'load_ms', '.1f')} "
              f"| {value('tract', 'difference', '.0e')}, {value('rten', 'difference', '.0e')} |", flush=True)
    print("\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
