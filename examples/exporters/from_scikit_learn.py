#!/usr/bin/env python3
"""scikit-learn -> ONNX with skl2onnx: a forest with texts as labels, a regressor, and a table of numbers and names.

    pip install -r requirements-scikit-learn.txt
    python from_scikit_learn.py
"""

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from finish import finish, path

OPSET = {"": 17, "ai.onnx.ml": 3}


def labels_and_probabilities(name, model, x, inputs):
    label = model.predict(x)
    label = label if label.dtype.kind == "i" else label.astype(object)
    finish(name, inputs, {"label": label, "probabilities": model.predict_proba(x).astype(np.float32)})


def wine():
    """Texts as labels. Without `zipmap: False` the probabilities are a list of maps, which no tensor can hold.

    No scaler before trees: they do not need one, and a last digit that is rounded otherwise moves a row to the
    other side of a split.
    """
    data = load_wine()
    names = np.array(["barolo", "grignolino", "barbera"], dtype=object)
    x, held_out, y, truth = train_test_split(data.data.astype(np.float32), names[data.target], random_state=0)
    model = make_pipeline(SimpleImputer(), RandomForestClassifier(100, random_state=0)).fit(x, y)
    print(f"wine: accuracy {model.score(held_out, truth):.3f} on {len(truth)} held-out rows")
    onnx_model = to_onnx(model, initial_types=[("measurements", FloatTensorType([None, x.shape[1]]))],
                         options={id(model): {"zipmap": False}}, target_opset=OPSET)
    path("wine").write_bytes(onnx_model.SerializeToString())
    labels_and_probabilities("wine", model, held_out, {"measurements": held_out})


def diabetes():
    """A regressor: what comes out has the shape [rows, 1]."""
    data = load_diabetes()
    x, held_out, y, truth = train_test_split(data.data.astype(np.float32), data.target, random_state=0)
    model = GradientBoostingRegressor(random_state=0).fit(x, y)
    print(f"diabetes: R² {model.score(held_out, truth):.3f} on {len(truth)} held-out rows")
    onnx_model = to_onnx(model, initial_types=[("measurements", FloatTensorType([None, x.shape[1]]))],
                         target_opset=OPSET)
    path("diabetes").write_bytes(onnx_model.SerializeToString())
    # The framework adds up in 64 bits, and the answer is some hundred.
    finish("diabetes", {"measurements": held_out},
           {"variable": model.predict(held_out).astype(np.float32)[:, None]}, tolerance=1e-3)


def wine_table():
    """Numbers and names in one table: one input for each column, each of the shape [rows, 1]."""
    data = load_wine(as_frame=True)
    table = data.frame[["alcohol", "color_intensity", "proline"]].astype(np.float32)
    table["strength"] = np.where(table.alcohol > 13, "strong", "light").astype(object)
    x, held_out, y, truth = train_test_split(table, data.target.to_numpy(), random_state=0)
    numbers = ["alcohol", "color_intensity", "proline"]
    model = make_pipeline(
        ColumnTransformer([("numbers", StandardScaler(), numbers),
                           ("names", OneHotEncoder(handle_unknown="ignore"), ["strength"])]),
        LogisticRegression(max_iter=1000)).fit(x, y)
    print(f"wine_table: accuracy {model.score(held_out, truth):.3f} on {len(truth)} held-out rows")
    types = [(name, FloatTensorType([None, 1])) for name in numbers] + [("strength", StringTensorType([None, 1]))]
    onnx_model = to_onnx(model, initial_types=types, target_opset=OPSET, options={id(model): {"zipmap": False}})
    path("wine_table").write_bytes(onnx_model.SerializeToString())
    inputs = {name: held_out[[name]].to_numpy(np.float32) for name in numbers}
    inputs["strength"] = held_out[["strength"]].to_numpy(object)
    labels_and_probabilities("wine_table", model, held_out, inputs)


if __name__ == "__main__":
    wine()
    diabetes()
    wine_table()
