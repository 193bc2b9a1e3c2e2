#!/usr/bin/env python3
"""Trains the `novelist` plugin: the tokens of a text so far -> the next one, one token at a time.

    pip install -r training/requirements.txt
    python training/train.py [--data DIR] [--threads 2]

Run by hand, never by the build; needs `apt-get` and `dpkg-deb` for the download of Jane Austen's novels (Debian's
package of the R package janeaustenr). Writes model.onnx, tokens.json and tests/reference.json beside this
folder and prints the held-out perplexity. --data keeps the downloaded package in DIR and reuses it.
"""

import argparse
import collections
import hashlib
import json
import math
import random
import re
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import rdata
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

SEED = 20250101
HERE = Path(__file__).resolve().parent.parent
PACKAGE = "r-cran-janeaustenr"
ARCHIVE = "r-cran-janeaustenr_1.0.0-1_all.deb"
SHA256 = "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"

VOCABULARY = 1024
# Token 0 ends a chapter, 1 to 256 are the bytes, the rest are merges in the order in which they apply.
END, FIRST_MERGE = 0, 257
CONTEXT, HIDDEN = 8, 192
BATCH, LEARNING_RATE, EPOCHS = 1024, 2e-3, 6
HELD_OUT = 0.03


# ---------------------------------------------------------------- data

def novels(folder):
    archive = folder / ARCHIVE
    if not archive.exists():
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{archive} is not the file that this was trained on")
    root = folder / "package"
    subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True)
    data = root / "usr/lib/R/site-library/janeaustenr/data"
    index = rdata.conversion.convert(rdata.parser.parse_data((data / "Rdata.rdx").read_bytes()))
    blob = (data / "Rdata.rdb").read_bytes()
    books = {}
    for name, (offset, length) in index["variables"].items():
        part = blob[int(offset):int(offset) + int(length)]
        # Four bytes of length, then the compressed value.
        value = rdata.parser.parse_data(zlib.decompress(part[4:]))
        books[str(name)] = [str(line) for line in rdata.conversion.convert(value)]
    return books


def chapters(lines):
    """Paragraphs on one line each, chapter by chapter, without headings."""
    chapter, paragraph = [], []
    for line in lines + ["CHAPTER"]:
        line = line.replace("_", "").replace("--", " - ").strip()
        line = line.replace("“", '"').replace("”", '"').replace("’", "'").replace("‘", "'")
        if re.fullmatch(r"(?i)(chapter|volume|book|letter)\b.{0,20}|the end|finis|by jane austen.*", line):
            if paragraph:
                chapter.append(" ".join(paragraph))
            if len(chapter) > 5:
                yield "\n".join(re.sub(r" +", " ", text) for text in chapter) + "\n"
            chapter, paragraph = [], []
        elif line:
            paragraph.append(line)
        elif paragraph:
            chapter.append(" ".join(paragraph))
            paragraph = []


# ---------------------------------------------------------------- tokens
# What follows down to encode() is what the plugin's Rust code does as well.

def kind(byte):
    """White space, a letter (any byte of a character beyond ASCII is one), or something else."""
    if byte in b" \n\t\r":
        return 0
    return 1 if byte >= 0x80 or chr(byte).isalpha() else 2


def pieces(data):
    """Runs of letters or of other signs, each with the one space before it; other white space byte by byte."""
    start = 0
    while start < len(data):
        body = start + 1 if data[start] == 0x20 and start + 1 < len(data) and kind(data[start + 1]) else start
        end = body + 1
        while kind(data[body]) and end < len(data) and kind(data[end]) == kind(data[body]):
            end += 1
        yield data[start:end]
        start = end


def merge(tokens, pair, token):
    merged, at = [], 0
    while at < len(tokens):
        if tuple(tokens[at:at + 2]) == pair:
            merged.append(token)
            at += 2
        else:
            merged.append(tokens[at])
            at += 1
    return merged


def encode_piece(piece, ranks):
    tokens = [byte + 1 for byte in piece]
    while len(tokens) > 1:
        rank = min((ranks.get(pair, VOCABULARY) for pair in zip(tokens, tokens[1:])))
        if rank == VOCABULARY:
            break
        pair = next(pair for pair in zip(tokens, tokens[1:]) if ranks.get(pair) == rank)
        tokens = merge(tokens, pair, rank)
    return tokens


def encode(text, ranks, known):
    tokens = []
    for piece in pieces(text.encode()):
        if piece not in known:
            known[piece] = encode_piece(piece, ranks)
        tokens += known[piece]
    return tokens


def learn_merges(texts):
    counts = collections.Counter(piece for text in texts for piece in pieces(text.encode()))
    words = [([byte + 1 for byte in piece], count) for piece, count in sorted(counts.items())]
    merges = []
    while FIRST_MERGE + len(merges) < VOCABULARY:
        pairs = collections.Counter()
        for tokens, count in words:
            for pair in zip(tokens, tokens[1:]):
                pairs[pair] += count
        pair = max(pairs, key=lambda pair: (pairs[pair], -pair[0], -pair[1]))
        merges.append(pair)
        token = FIRST_MERGE + len(merges) - 1
        words = [(merge(tokens, pair, token) if pair[0] in tokens else tokens, count) for tokens, count in words]
    return merges


# ---------------------------------------------------------------- network

class Network(nn.Module):
    """Reads the last CONTEXT tokens, each in its place, and says how likely every token is as the next. What a token in a
    place means to the hidden layer is a row of a table, which is the cheapest first layer there is."""

    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(CONTEXT * VOCABULARY, HIDDEN, mode="sum")
        self.hidden_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.out = nn.Linear(HIDDEN, VOCABULARY)
        self.dropout = nn.Dropout(0.2)
        nn.init.normal_(self.table.weight, std=0.1)
        self.register_buffer("places", torch.arange(CONTEXT) * VOCABULARY)

    def forward(self, tokens):
        return self.out(self.dropout(torch.relu(self.table(tokens + self.places) + self.hidden_bias)))


def windows(chapters_of_tokens):
    """Each token of a chapter with those before it, and END before its beginning."""
    contexts, targets = [], []
    for tokens in chapters_of_tokens:
        padded = np.array([END] * CONTEXT + tokens + [END])
        contexts.append(np.lib.stride_tricks.sliding_window_view(padded, CONTEXT)[:-1])
        targets.append(padded[CONTEXT:])
    return torch.tensor(np.concatenate(contexts)), torch.tensor(np.concatenate(targets))


def held_out_loss(network, contexts, targets):
    network.eval()
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(network(context), target, reduction="sum").item()
                  for context, target in zip(contexts.split(4096), targets.split(4096))]
    return sum(losses) / len(targets)


def train(chapters_of_tokens, held_out):
    torch.manual_seed(SEED)
    network = Network()
    print(f"{sum(weight.numel() for weight in network.parameters()):,} parameters", flush=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.03, fused=True)
    contexts, targets = windows(chapters_of_tokens)
    began, step, elapsed, total, order = time.monotonic(), 0, 0.0, 0.0, None
    while (done := step * BATCH / (EPOCHS * len(targets))) < 1:
        if order is None or len(order) < BATCH:
            order = torch.randperm(len(targets))
        batch, order = order[:BATCH], order[BATCH:]
        rate = LEARNING_RATE * min(1.0, (step + 1) / 100) * max(0.01, 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        network.train()
        loss = nn.functional.cross_entropy(network(contexts[batch]), targets[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step, total, elapsed = step + 1, total + loss.item(), time.monotonic() - began
        if step % 500 == 0:
            print(f"{elapsed:6.0f} s  epoch {step * BATCH / len(targets):.1f}  loss {total / 500:.3f}  "
                  f"held out {held_out_loss(network, *held_out):.3f}", flush=True)
            total = 0.0
    network.eval()
    return network


# ---------------------------------------------------------------- export

def export(network, path):
    """`tokens` INT64[batch, CONTEXT] -> `logits` FP32[batch, VOCABULARY], written node by node."""
    weights = {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}
    constants = {"table": weights["table.weight"], "hidden_bias": weights["hidden_bias"],
                 "out_weights": weights["out.weight"].T, "out_bias": weights["out.bias"],
                 "places": np.arange(CONTEXT, dtype=np.int64) * VOCABULARY, "axis": np.array([1], np.int64)}
    initializers = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    nodes = [
        helper.make_node("Add", ["tokens", "places"], ["rows"]),
        helper.make_node("Gather", ["table", "rows"], ["meanings"]),
        helper.make_node("ReduceSum", ["meanings", "axis"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "hidden_bias"], ["before"]),
        helper.make_node("Relu", ["before"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "out_weights"], ["scores"]),
        helper.make_node("Add", ["scores", "out_bias"], ["logits"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "novelist", [value("tokens", TensorProto.INT64, ["batch", CONTEXT])],
                              [value("logits", TensorProto.FLOAT, ["batch", VOCABULARY])], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
                              producer_name="modelhost plugins/novelist")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class Exported:
    """The exported network, as the plugin runs it."""

    def __init__(self, path, merges):
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.ranks = {pair: FIRST_MERGE + index for index, pair in enumerate(merges)}
        self.bytes = [b""] + [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            self.bytes.append(self.bytes[left] + self.bytes[right])

    def continue_greedily(self, prompt, most):
        """As the plugin does it with temperature 0."""
        tokens = encode(prompt, self.ranks, {})
        window, made = ([END] * CONTEXT + tokens)[-CONTEXT:], []
        while len(made) < most:
            logits, = self.session.run(["logits"], {"tokens": np.array([window])})
            token = int(logits[0].argmax())
            if token == END:
                break
            made.append(token)
            window = window[1:] + [token]
        text = b"".join(self.bytes[token] for token in made).decode(errors="replace")
        return text, "length" if len(made) == most else "stop", len(tokens), len(made)

    def case(self, prompts, most):
        answers = [self.continue_greedily(prompt, most) for prompt in prompts]
        rows = [len(prompts)]
        columns = zip(["text_output", "finish_reason", "prompt_tokens", "completion_tokens"],
                      ["BYTES", "BYTES", "INT64", "INT64"], zip(*answers))
        return {
            "request": {"parameters": {"max_tokens": most}, "inputs": [
                {"name": "text_input", "datatype": "BYTES", "shape": rows, "data": prompts}]},
            "response": {"outputs": [
                {"name": name, "datatype": datatype, "shape": rows, "data": list(data)}
                for name, datatype, data in columns]},
        }


CASES = [(["It is a truth universally acknowledged, that"], 48), (["Emma was", '"My dear Mr. Bennet,"'], 24),
         ([""], 32), (["She walked to the window and"], 64), (["Das Haus über dem Fluß, 1813"], 16),
         (["Elinor could not help laughing"], 1)]


def write_cases(merges):
    exported = Exported(HERE / "model.onnx", merges)
    cases = [exported.case(prompts, most) for prompts, most in CASES]
    for case in cases:
        prompts, texts = case["request"]["inputs"][0]["data"], case["response"]["outputs"][0]["data"]
        print("\n".join(f"{prompt!r} -> {text!r}" for prompt, text in zip(prompts, texts)))
    (HERE / "tests").mkdir(exist_ok=True)
    (HERE / "tests/reference.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
    (HERE / "example.json").write_text(json.dumps(cases[0], indent=1, ensure_ascii=False) + "\n")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--threads", type=int, default=2)
    arguments = arguments.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        books = novels((arguments.data or Path(temporary)).resolve())
    texts = [text for name in sorted(books) for text in chapters(books[name])]
    random.Random(SEED).shuffle(texts)
    cut = max(1, int(len(texts) * HELD_OUT))
    held_out, training = texts[:cut], texts[cut:]
    print(f"{len(texts)} chapters of {len(books)} novels, {sum(map(len, texts)):,} characters, {cut} chapters held out", flush=True)
    merges = learn_merges(training)
    ranks, known = {pair: FIRST_MERGE + index for index, pair in enumerate(merges)}, {}
    tokenized = [encode(text, ranks, known) for text in training]
    held_out_windows = windows([encode(text, ranks, known) for text in held_out])
    tokens = len(held_out_windows[1])
    print(f"{sum(map(len, tokenized)):,} tokens to train, {tokens:,} held out", flush=True)
    (HERE / "tokens.json").write_text(json.dumps({"context": CONTEXT, "merges": merges}, separators=(",", ":")) + "\n")
    network = train(tokenized, held_out_windows)
    loss = held_out_loss(network, *held_out_windows)
    bits = loss * tokens / sum(map(len, held_out)) / math.log(2)
    print(f"held out: {loss:.3f} nats a token, perplexity {math.exp(loss):.1f}, {bits:.3f} bits a character")
    export(network, HERE / "model.onnx")
    write_cases(merges)


if __name__ == "__main__":
    main()
