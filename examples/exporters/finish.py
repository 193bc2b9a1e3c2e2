"""What every script here ends with: ONNX Runtime must answer as the framework does, and then the file can be pushed.

A file `NAME.json` beside `NAME.onnx` keeps a request and the framework's answer, for `ask.py`.
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


def finish(name, inputs, expected, tolerance=1e-5, agreeing=1.0):
    """`inputs` and `expected` are arrays by name; `agreeing` is the share of labels that has to be the same."""
    onnx.checker.check_model(path(name), full_check=True)
    session = ort.InferenceSession(path(name), providers=["CPUExecutionProvider"])
    answers = dict(zip(expected, session.run(list(expected), inputs)))
    for output, wanted in expected.items():
        found = answers[output]
        if found.shape != wanted.shape:
            raise SystemExit(f"{name}: {output} has the shape {found.shape}, not {wanted.shape}")
        if wanted.dtype.kind == "f":
            difference = np.abs(found - wanted).max()
            print(f"{name}: {output} of {len(wanted)} rows differs from the framework's by at most {difference:.1e}")
            if not difference <= tolerance:
                raise SystemExit(f"{name}: that is more than {tolerance:.0e}")
        else:
            same = (found == wanted).mean()
            print(f"{name}: {output} of {len(wanted)} rows is the framework's for {same:.1%}")
            if same < agreeing:
                raise SystemExit(f"{name}: fewer than {agreeing:.1%}")
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
