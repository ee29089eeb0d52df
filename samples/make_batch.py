"""Writes a batch of 1,200 invented indicators of every network and file type to standard output, the same each time.

python samples/make_batch.py > batch.json
python samples/make_batch.py --count 13000 > large.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from typing import Any

_ACTIONS = {
    "FileSha256": "BlockAndRemediate",
    "FileSha1": "Block",
    "DomainName": "Block",
    "Url": "Warn",
    "IpAddress": "Audit",
}


def batch(count: int = 1_200) -> dict[str, Any]:
    """A native batch of `count` different indicators, all of which the relay takes."""
    indicators = []
    for number in range(count):
        digest = hashlib.sha256(f"sample {number}".encode()).hexdigest()
        kind = list(_ACTIONS)[number % len(_ACTIONS)]
        match kind:
            case "FileSha256":
                value = digest
            case "FileSha1":
                value = digest[:40]
            case "DomainName":
                value = f"{digest[:8]}-{number}.example"
            case "Url":
                value = f"https://{digest[:8]}.example/{digest[8:16]}/load.php?id={number}&k={digest[16:24]}"
            case _:
                value = f"45.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"
        indicators.append({"indicatorValue": value, "indicatorType": kind, "action": _ACTIONS[kind]})
    return {
        "schema": 1,
        "source": "sample-batch",
        "incident": {"number": 3200, "title": "Indicators of a shared report"},
        "defaults": {"severity": "Medium", "title": "Shared report", "description": "Sample batch", "expires": "P60D"},
        "indicators": indicators,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_200, help="how many indicators (default: 1200)")
    json.dump(batch(parser.parse_args().count), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
