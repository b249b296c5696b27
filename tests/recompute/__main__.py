"""Recomputes a finished sweep from its files, and compares every number of its records and tables.

    python -m tests.recompute FOLDER [--json FILE] [--quick]

The code is its own, with scipy, statsmodels, safetensors and plain transformers. Of the product it takes only where the
miniature models lie and the rows of their world, which are input. Exits with 1 where any number differs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tests.recompute.sweep import recompute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.recompute", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="a sweep's folder, with its report")
    parser.add_argument("--json", type=Path, help="file for the differences and counts")
    parser.add_argument("--quick", action="store_true", help="ask no model again")
    arguments = parser.parse_args()
    tally = recompute(arguments.folder, models=not arguments.quick)
    for difference in tally.differences:
        print(difference)
    for key, count in sorted(tally.left.items()):
        print(f"not recomputed: {key} ({count})")
    print(f"{tally.compared} figures compared, {len(tally.differences)} differ")
    if arguments.json:
        arguments.json.write_text(json.dumps(tally.as_json(), indent=1) + "\n")
    return 1 if tally.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
