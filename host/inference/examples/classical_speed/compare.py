"""Times the same cases on the embedded engine and on ONNX Runtime, in turn and one thread each, and prints the ratio.

    pip install onnxruntime==1.32.0 onnx numpy
    python compare.py FOLDER [--above 1.5]

FOLDER has cases as tests/classical/generate.py writes them. Every number is the least of some repetitions, and the two
engines take turns twice, so that whatever else the machine does falls on both.
"""

import argparse
import os
import subprocess
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--above", type=float, default=0.0, help="print only what takes more than this many times the time")
parser.add_argument("--turns", type=int, default=2)
parser.add_argument("--program", help="the built example, in place of cargo run")
arguments = parser.parse_args()
BATCHES = [1, 16, 1000]
BUDGET = 0.06


def embedded():
    here = os.path.dirname(os.path.abspath(__file__))
    cargo = ["cargo", "run", "--quiet", "--release", "-p", "modelhost-inference", "--example", "classical_speed", "--"]
    command = [arguments.program] if arguments.program else cargo
    lines = subprocess.run(command + [os.path.abspath(arguments.folder)], cwd=here, capture_output=True, text=True, check=True)
    rows = (line.split("\t") for line in lines.stdout.splitlines())
    return {(name, int(batch)): float(least) for name, batch, least in rows}


def onnx_runtime(name, batches):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    path = os.path.join(arguments.folder, f"{name}.onnx")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    data = onnx.GraphProto()
    with open(os.path.join(arguments.folder, f"{name}.data"), "rb") as file:
        data.ParseFromString(file.read())
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in data.initializer}
    outputs = [output.name for output in session.get_outputs()]
    for batch in batches:
        inputs = {}
        for input_ in session.get_inputs():
            value = tensors[input_.name]
            if value.dtype.kind in "SO":
                value = np.array([part.decode() if isinstance(part, bytes) else part for part in value.ravel()],
                                 object).reshape(value.shape)
            inputs[input_.name] = np.concatenate([value] * -(-batch // len(value)))[:batch]
        least, began = float("inf"), time.perf_counter()
        while time.perf_counter() - began < BUDGET:
            start = time.perf_counter()
            session.run(outputs, inputs)
            least = min(least, time.perf_counter() - start)
        yield batch, least * 1e6


ours, theirs = {}, {}
for turn in range(arguments.turns):
    for key, least in embedded().items():
        ours[key] = min(least, ours.get(key, least))
    for name in sorted({name for name, _ in ours}):
        for batch, least in onnx_runtime(name, [batch for other, batch in ours if other == name]):
            theirs[name, batch] = min(least, theirs.get((name, batch), least))
print("| case | rows | ONNX Runtime µs | embedded µs | ratio |")
print("| --- | --- | --- | --- | --- |")
for key in sorted(ours):
    ratio = ours[key] / theirs[key]
    if ratio > arguments.above:
        print(f"| {key[0]} | {key[1]} | {theirs[key]:.1f} | {ours[key]:.1f} | {ratio:.2f} |")
for batch in BATCHES:
    ratios = sorted(ours[key] / theirs[key] for key in ours if key[1] == batch)
    if ratios:
        above = sum(ratio > 1.5 for ratio in ratios)
        print(f"{batch} rows: median {ratios[len(ratios) // 2]:.2f}, largest {ratios[-1]:.2f}, {above} of {len(ratios)} above 1.5")
