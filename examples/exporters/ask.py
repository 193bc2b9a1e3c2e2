#!/usr/bin/env python3
"""Asks a running host for what was exported here, and compares with the answers that were kept.

    python ask.py [--url http://127.0.0.1:8080] MODEL...
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "exported"


def ask(url, model):
    """What differs from the answer that was kept; nothing where it is the same."""
    exchange = json.loads((FOLDER / f"{model}.json").read_text())
    body = json.dumps(exchange["request"]).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v2/models/{model}/infer", body)) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        return error.read().decode()
    found = {output["name"]: output for output in answer["outputs"]}
    for wanted in exchange["response"]["outputs"]:
        output = found.get(wanted["name"])
        if output is None:
            return f"{wanted['name']} is missing"
        if (output["shape"], output["datatype"]) != (wanted["shape"], wanted["datatype"]):
            return f"{wanted['name']} is {output['datatype']}{output['shape']}"
        for one, other in zip(output["data"], wanted["data"]):
            same = abs(one - other) <= exchange["tolerance"] * max(1, abs(other)) \
                if isinstance(other, float) else one == other
            if not same:
                return f"{wanted['name']} holds {one}, not {other}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("model", nargs="+")
    arguments = parser.parse_args()
    differences = {model: ask(arguments.url, model) for model in arguments.model}
    for model, difference in differences.items():
        print(f"{model}: {difference or 'as the framework'}")
    sys.exit(any(differences.values()))


if __name__ == "__main__":
    main()
