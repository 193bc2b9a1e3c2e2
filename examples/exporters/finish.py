"""What every script here ends with: ONNX Runtime must answer as the framework does, and then the file can be pushed.

A file `NAME.json` beside `NAME.onnx` keeps a request and the answer of ONNX Runtime, which was just compared with the
framework's, for `ask.py`.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

FOLDER = Path(__file__).resolve().parent / "exported"
ROWS = 5  # of the request that is kept
DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32", "object": "BYTES"}


def path(name):
    FOLDER.mkdir(exist_ok=True)
    return FOLDER / f"{name}.onnx"


def answers_of(name, inputs, outputs):
    """ONNX Runtime's."""
    session = ort.InferenceSession(path(name), providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(outputs, inputs)))


def finish(name, inputs, expected, tolerance=1e-5, agreeing=1.0):
    """`inputs` and `expected` are arrays by name; `agreeing` is the share of rows that has to be the same."""
    onnx.checker.check_model(path(name), full_check=True)
    answers = answers_of(name, inputs, list(expected))
    for output, wanted in expected.items():
        found = answers[output]
        if found.shape != wanted.shape:
            raise SystemExit(f"{name}: {output} has the shape {found.shape}, not {wanted.shape}")
        same = np.abs(found - wanted) <= tolerance if wanted.dtype.kind == "f" else found == wanted
        rows = same.reshape(len(wanted), -1).all(1)
        farthest = f", by at most {np.abs(found - wanted).max():.1e}" if wanted.dtype.kind == "f" else ""
        print(f"{name}: {output} is the framework's for {rows.sum()} of {len(rows)} rows{farthest}")
        if rows.mean() < agreeing:
            raise SystemExit(f"{name}: that is less than {agreeing:.0%}")
    exchange = {"request": {"inputs": tensors({key: value[:ROWS] for key, value in inputs.items()})},
                "response": {"outputs": tensors({key: value[:ROWS] for key, value in answers.items()})},
                "tolerance": tolerance}
    path(name).with_suffix(".json").write_text(json.dumps(exchange) + "\n")
    print(f"  modelhost push {path(name)} --model {name} --deploy")
    print(f"  python ask.py {name}\n")


def tensors(arrays):
    def data(array):
        return [float(str(x)) for x in array.ravel()] if array.dtype.kind == "f" else array.ravel().tolist()
    return [{"name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape), "data": data(array)}
            for name, array in arrays.items()]
