#!/usr/bin/env python3
"""XGBoost -> ONNX with onnxmltools: two classes with missing values, ten classes, and a regressor.

    pip install -r requirements-xgboost.txt
    python from_xgboost.py
"""

import numpy as np
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier, XGBRegressor

from finish import finish, path

SETTINGS = {"n_estimators": 100, "max_depth": 4, "learning_rate": 0.1, "random_state": 0}


def export(name, model, features):
    onnx_model = convert_xgboost(model, initial_types=[("features", FloatTensorType([None, features]))],
                                 target_opset=15)
    path(name).write_bytes(onnx_model.SerializeToString())


def split(data, missing=0.0):
    x = data.data.astype(np.float32)
    x[np.random.default_rng(0).random(x.shape) < missing] = np.nan
    return train_test_split(x, data.target, random_state=0)


def classifier(name, data, missing=0.0):
    x, held_out, y, truth = split(data, missing)
    model = XGBClassifier(**SETTINGS).fit(x, y)
    print(f"{name}: accuracy {model.score(held_out, truth):.3f} on {len(truth)} held-out rows")
    export(name, model, x.shape[1])
    # JSON knows no NaN: the rows that are kept as a request are those without.
    held_out = held_out[np.argsort(np.isnan(held_out).any(1), kind="stable")]
    finish(name, {"features": held_out},
           {"label": model.predict(held_out).astype(np.int64), "probabilities": model.predict_proba(held_out)})


def regressor(name, data):
    x, held_out, y, truth = split(data)
    model = XGBRegressor(**SETTINGS).fit(x, y)
    print(f"{name}: R² {model.score(held_out, truth):.3f} on {len(truth)} held-out rows")
    export(name, model, x.shape[1])
    finish(name, {"features": held_out}, {"variable": model.predict(held_out)[:, None]}, tolerance=1e-3)


if __name__ == "__main__":
    classifier("tumour_xgboost", load_breast_cancer(), missing=0.01)
    classifier("digits_xgboost", load_digits())
    regressor("diabetes_xgboost", load_diabetes())
