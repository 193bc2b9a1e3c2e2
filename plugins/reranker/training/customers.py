#!/usr/bin/env python3
"""Writes examples/customers.jsonl: customers of the pizza place, and what each has ordered.

    pip install -r ../recommender/training/requirements.txt
    python training/customers.py [--data DIR]

The set knows orders and no people: each order is taken for a customer of its own. These are the first 1,000 of the
orders that the recommender was not fitted to, of up to twelve kinds, so that each leaves twenty to recommend.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE.parent / "recommender" / "training"))
from train import download  # noqa: E402

CUSTOMERS = 1_000
MOST_KINDS = 12


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that keeps the downloaded package")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = download(args.data or Path(folder))
    orders = [(str(order), sorted(set(map(str, names))))
              for order, names in table.groupby("id", sort=True)["name"]]
    unseen = orders[int(0.85 * len(orders)):]
    chosen = [(user, items) for user, items in unseen if len(items) <= MOST_KINDS][:CUSTOMERS]
    lines = [json.dumps({"user": user, "items": items}, separators=(",", ":")) for user, items in chosen]
    path = HERE.parent.parent / "examples" / "customers.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"wrote {len(lines)} customers to {path.relative_to(HERE.parent.parent)}")


if __name__ == "__main__":
    main()
