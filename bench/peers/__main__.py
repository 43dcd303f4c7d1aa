"""`python -m bench.peers [MEASURE …] [--json] [--strict]`; `make bench-peers` runs it."""

from __future__ import annotations

import sys

from bench.__main__ import main

MEASURES = ("recorders", "durable")

if __name__ == "__main__":
    sys.exit(main(MEASURES, __package__, __doc__))
