#!/usr/bin/env python3
"""Trains the iris classifier: four measurements of a flower -> probabilities of three species.

    pip install -r training/requirements.txt
    python training/train.py

Run by hand, never by the build. Writes the graph twice, as ../iris.onnx (a model without custom code) and as
iris.onnx beside Cargo.toml (which the plugin embeds), and ../iris.json: one request and its answer as ONNX
Runtime gives it. Prints the accuracy on flowers that were held out.

Data: Fisher's iris flowers, as scikit-learn ships them (BSD-3-Clause): 150 rows, nothing missing.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

SEED = 7
HERE = Path(__file__).resolve().parent.parent
# One flower of each species, from the held-out part.
SHOWN_PER_SPECIES = 1


def to_onnx(scaler: StandardScaler, model: LogisticRegression) -> onnx.ModelProto:
    """Gemm and Softmax; the standardisation is folded into the weights, so the graph takes centimetres."""
    weights = model.coef_ / scaler.scale_
    bias = model.intercept_ - weights @ scaler.mean_
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["measurements", "weights", "bias"], ["logits"], transB=1),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "iris",
        [helper.make_tensor_value_info("measurements", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="modelhost")
    made.ir_version = 8
    onnx.checker.check_model(made, full_check=True)
    return made


def tensor(name: str, values: np.ndarray) -> dict:
    data = [float(str(value)) for value in values.ravel()]  # the shortest digits that give this float32
    return {"name": name, "datatype": "FP32", "shape": list(values.shape), "data": data}


def main() -> None:
    data = load_iris()
    train, held_out, train_labels, held_out_labels = train_test_split(
        data.data, data.target, test_size=0.3, random_state=SEED, stratify=data.target
    )
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(C=10.0, max_iter=1000).fit(scaler.transform(train), train_labels)
    graph = to_onnx(scaler, model).SerializeToString()

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"measurements": held_out.astype(np.float32)})
    expected = model.predict_proba(scaler.transform(held_out))
    assert np.abs(probabilities - expected).max() < 1e-5, "the graph and scikit-learn disagree"
    accuracy = (probabilities.argmax(axis=1) == held_out_labels).mean()

    shown = [index for label in range(3) for index in np.flatnonzero(held_out_labels == label)[:SHOWN_PER_SPECIES]]
    measurements = held_out[shown].astype(np.float32)
    (answer,) = session.run(None, {"measurements": measurements})
    example = {
        "request": {"inputs": [tensor("measurements", measurements)]},
        "response": {"outputs": [tensor("probabilities", answer)]},
    }

    (HERE / "iris.onnx").write_bytes(graph)
    (HERE.parent / "iris.onnx").write_bytes(graph)
    (HERE.parent / "iris.json").write_text(json.dumps(example, indent=2) + "\n")
    species = [str(data.target_names[label]) for label in held_out_labels[shown]]
    print(f"{len(graph)} bytes; accuracy on {len(held_out)} held-out flowers {accuracy:.3f}; shown: {species}")


if __name__ == "__main__":
    main()
