#!/usr/bin/env python3
"""Runs damaged copies of a network with tract and with rten, each in a process of its own with 2 GiB, and counts how it ends.

    python hostile.py [--count N] [--program target/release/engine-comparison] FILE.onnx
"""

import argparse
import json
import resource
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from compare import HERE, onnx_runtime, tensors

MEMORY = 2 << 30
SECONDS = 20


def damaged(content, rng):
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = rng.integers(len(content))
        match rng.integers(3):
            case 0: content[at] = rng.integers(256)
            case 1: content[at:at + 4] = b"\xff\xff\xff\x7f"
            case 2: del content[at:at + rng.integers(1, 9)]
    return bytes(content)


def outcome(program, engine, path, case):
    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    command = [program, path, case, "--seconds", "0", "--engine", engine]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, preexec_fn=limited)
    except subprocess.TimeoutExpired:
        return f"not done after {SECONDS} s"
    if done.returncode < 0:
        return f"process ended by signal {-done.returncode}"
    if done.returncode > 0:
        return "error in a later run"
    error = json.loads(done.stdout)[engine].get("error")
    if error is None:
        return "answered"
    return "panic" if error.startswith("panic") else "error"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--program", default=HERE / "target/release/engine-comparison")
    arguments = parser.parse_args()
    inputs, outputs, _, _ = onnx_runtime(arguments.file, {}, 0)
    rng = np.random.default_rng(0)
    counts = {"tract": Counter(), "rten": Counter()}
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "case.json"
        case.write_text(json.dumps({"inputs": tensors(inputs), "outputs": tensors(outputs)}))
        path = Path(folder) / "damaged.onnx"
        for _ in range(arguments.count):
            path.write_bytes(damaged(arguments.file.read_bytes(), rng))
            for engine, count in counts.items():
                count[outcome(arguments.program, engine, path, case)] += 1
    for engine, count in counts.items():
        print(f"{engine}: " + ", ".join(f"{number} × {what}" for what, number in count.most_common()))


if __name__ == "__main__":
    main()
