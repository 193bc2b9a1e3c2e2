#!/usr/bin/env python3
"""LightGBM -> ONNX with onnxmltools: two classes, ten classes, and a regressor.

    pip install -r requirements-lightgbm.txt
    python from_lightgbm.py
"""

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split

from finish import finish, path

SETTINGS = {"n_estimators": 100, "learning_rate": 0.1, "random_state": 0, "verbose": -1, "n_jobs": 2}

# LightGBM compares with 64-bit numbers, ONNX with 32-bit ones: a value beside a split may go the other way. The
# only way around is to train on what stays apart in 32 bits, such as numbers rounded to a few digits.
SPLITS_ROUNDED = {"tolerance": 1e-3, "agreeing": 0.99}


def export(name, model, features):
    onnx_model = convert_lightgbm(model, initial_types=[("features", FloatTensorType([None, features]))],
                                  target_opset=15, zipmap=False)
    # The converter names the oldest operator set that has Identity, which is older than engines have to know.
    for used in onnx_model.opset_import:
        used.version = max(used.version, 15) if used.domain == "" else used.version
    path(name).write_bytes(onnx_model.SerializeToString())


def split(data):
    return train_test_split(data.data.astype(np.float32), data.target, random_state=0)


def classifier(name, data):
    x, held_out, y, truth = split(data)
    model = LGBMClassifier(**SETTINGS).fit(x, y)
    print(f"{name}: accuracy {model.score(held_out, truth):.3f} on {len(truth)} held-out rows")
    export(name, model, x.shape[1])
    finish(name, {"features": held_out},
           {"label": model.predict(held_out).astype(np.int64),
            "probabilities": model.predict_proba(held_out).astype(np.float32)}, **SPLITS_ROUNDED)


def regressor(name, data):
    x, held_out, y, truth = split(data)
    model = LGBMRegressor(**SETTINGS).fit(x, y)
    print(f"{name}: R² {model.score(held_out, truth):.3f} on {len(truth)} held-out rows")
    export(name, model, x.shape[1])
    finish(name, {"features": held_out},
           {"variable": model.predict(held_out).astype(np.float32)[:, None]}, **SPLITS_ROUNDED)


if __name__ == "__main__":
    classifier("tumour_lightgbm", load_breast_cancer())
    classifier("digits_lightgbm", load_digits())
    regressor("diabetes_lightgbm", load_diabetes())
