"""One side of a comparison: a script that obeys lines on its stdin and answers on its stdout.

Scripts beside this file run under another project's interpreter: only the standard library here.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

STEPS = 10
PROMPT = "Sort this mail by what its sender wants, and say how sure you are. " * 30  # 2 KB
ANSWER = "It is an invoice for the third quarter, sent by the usual supplier. " * 30

READABLE_S = 30.0
"""How long a trace may take to appear."""


class Recording:
    """What a tracer has to offer to be compared.

    A trace is one execution of ten steps, each a plain one or a model call, 2 KB in and 2 KB out.
    """

    def trace(self, number: int, *, calls: bool) -> str:
        """Record one trace as a user would; its id."""
        raise NotImplementedError

    def readable(self, trace_id: str) -> bool:
        """Whether the whole trace can be read."""
        raise NotImplementedError

    def flush(self) -> None:
        """Wait until what was recorded is stored."""

    def count(self) -> int:
        """How many whole traces can be read, in a process that recorded none of them."""
        raise NotImplementedError

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """What can be asked of it."""
        return {
            "cost": self.cost,
            "delay": self.delay,
            "die": self.die,
            "count": self.count,
        }

    def cost(self, runs: int, calls: bool) -> list[float]:
        """Milliseconds a step on the caller's path, for each trace."""
        took: list[float] = []
        for number in range(runs):
            began = time.perf_counter()
            self.trace(number, calls=calls)
            took.append(1000 * (time.perf_counter() - began) / STEPS)
        self.flush()
        return took

    def delay(self, calls: bool) -> float | None:
        """Milliseconds from the end of a trace to the first look that finds all of it."""
        trace_id = self.trace(0, calls=calls)
        began = time.perf_counter()
        while not self.readable(trace_id):
            if time.perf_counter() - began > READABLE_S:
                return None
            time.sleep(0.002)
        return 1000 * (time.perf_counter() - began)

    def die(self, runs: int, calls: bool) -> None:
        """Record, and be killed right after the last call has returned."""
        for number in range(runs):
            self.trace(number, calls=calls)
        os.kill(os.getpid(), signal.SIGKILL)


def obey(verbs: dict[str, Callable[..., Any]]) -> None:
    """Answer lines of `[verb, {arguments}]` until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    gc.collect()
    gc.freeze()  # on every side: what is loaded now stays, as in a server
    print("[]", file=answers, flush=True)
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        print(json.dumps([verbs[verb](**arguments)]), file=answers, flush=True)
