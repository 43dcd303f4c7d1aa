"""`python -m bench [MEASURE …] [--json] [--strict]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib import import_module

import orjson

from .harness import Line, show

MEASURES = (
    *("noop", "recording", "models", "throughput", "waiting", "version", "writing", "recorder"),
    *("contextcache", "knowledge", "agents", "conversations", "memory"),
)


async def run(names: Sequence[str], package: str | None) -> list[Line]:
    """Run measures of a package one after the other."""
    lines: list[Line] = []
    for name in names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        measure = import_module(f".{name}", package).measure
        lines += [line async for line in measure()]
    return lines


def main(
    measures: Sequence[str] = MEASURES,
    package: str | None = __package__,
    description: str | None = __doc__,
) -> int:
    """Measure and print; the exit code is 1 only for a missed bar under `--strict`."""
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=description)
    parser.add_argument("measure", nargs="*", help=f"of {', '.join(measures)}; default: all")
    parser.add_argument("--json", action="store_true", help="write JSON and nothing else")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    asked = parser.parse_args()
    if unknown := [name for name in asked.measure if name not in measures]:
        parser.error(f"no measure {', '.join(unknown)}; there are {', '.join(measures)}")
    lines = asyncio.run(run(asked.measure or measures, package))
    if asked.json:
        print(orjson.dumps([line.as_json() for line in lines], option=orjson.OPT_INDENT_2).decode())
    else:
        show(lines)
    return int(asked.strict and any(line.met is False for line in lines))


if __name__ == "__main__":
    sys.exit(main())
