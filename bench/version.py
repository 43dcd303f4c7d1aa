"""How long the command line takes to say its version."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

from .harness import Line

ROUNDS = 15


async def measure() -> AsyncIterator[Line]:
    """`holdfast --version`, beside a Python that does nothing."""
    holdfast = str(Path(sys.executable).with_name("holdfast"))
    _seconds(holdfast, "--version")
    pairs = [
        (_seconds(sys.executable, "-c", ""), _seconds(holdfast, "--version")) for _ in range(ROUNDS)
    ]
    yield Line(
        name="holdfast --version",
        value=median(ours for _, ours in pairs),
        unit="s",
        bar=0.2,
        note=f"an empty Python takes {median(bare for bare, _ in pairs):.3f} s",
    )


def _seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
