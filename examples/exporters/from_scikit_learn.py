#!/usr/bin/env python3
"""scikit-learn -> ONNX with skl2onnx: a forest, a regressor, and a table with an input for each column.

    pip install -r requirements-scikit-learn.txt
    python from_scikit_learn.py
"""

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from finish import finish, path

OPSET = {"": 17, "ai.onnx.ml": 3}


def labels_and_probabilities(name, model, x, inputs):
    finish(name, inputs, {"label": model.predict(x).astype(np.int64),
                          "probabilities": model.predict_proba(x).astype(np.float32)})


def wine():
    """Without `zipmap: False` the probabilities are a list of maps, which no tensor can hold.

    No scaler before trees: they do not need one, and a last digit that is rounded otherwise moves a row to the
    other side of a split.
    """
    data = load_wine()
    x, held_out, y, truth = train_test_split(data.data.astype(np.float32), data.target, random_state=0)
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
    """A table: one input for each column, each of the shape [rows, 1]."""
    data = load_wine(as_frame=True)
    columns = ["alcohol", "color_intensity", "proline"]
    x, held_out, y, truth = train_test_split(data.frame[columns].astype(np.float32), data.target.to_numpy(),
                                             random_state=0)
    model = make_pipeline(ColumnTransformer([("scaled", StandardScaler(), ["color_intensity", "proline"]),
                                             ("as_it_is", "passthrough", ["alcohol"])]),
                          LogisticRegression(max_iter=1000)).fit(x, y)
    print(f"wine_table: accuracy {model.score(held_out, truth):.3f} on {len(truth)} held-out rows")
    onnx_model = to_onnx(model, initial_types=[(name, FloatTensorType([None, 1])) for name in columns],
                         target_opset=OPSET, options={id(model): {"zipmap": False}})
    path("wine_table").write_bytes(onnx_model.SerializeToString())
    inputs = {name: held_out[[name]].to_numpy() for name in columns}
    labels_and_probabilities("wine_table", model, held_out, inputs)


if __name__ == "__main__":
    wine()
    diabetes()
    wine_table()
