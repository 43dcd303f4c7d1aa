"""What a runner says of itself, for the contract of spawners."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import langsmith.utils
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde import _msgpack
from pydantic import BaseModel

from holdfast.domain.ids import new_id
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State
from holdfast.runner.zygote import descriptors

CHANCES = 50
"""How many numbers and ids of each kind are drawn."""


class Order(BaseModel):
    """What a runner is told to do."""

    say: str = ""  # to be printed, in three ways
    leave: int | None = None  # with which exit code


looks = Pipeline("spawned.looks", version="1", event=Order)


@looks.node
def look(_state: State[Order]) -> dict[str, Any]:
    """Everything that may differ between two ways of starting a process."""
    return {
        "pid": os.getpid(),
        "environment": dict(os.environ),  # noqa: TID251 - it is what is looked at
        "descriptors": sorted(what for _, what in descriptors()),
        "inheritable": [fd for fd, _ in descriptors() if fd > 2 and os.get_inheritable(fd)],
        "chances": _chances(),
        "signals": _signals(),
        "process": {
            "cwd": str(Path.cwd()),
            "group": os.getpgid(0),
            "session": os.getsid(0),
            "nice": os.nice(0),
            "limits": [resource.getrlimit(resource.RLIMIT_NOFILE)],
            "name": Path("/proc/self/comm").read_text().strip() if _ON_LINUX else "",
        },
        "python": {
            "collects": gc.isenabled(),
            "thresholds": gc.get_threshold(),
            "flags": str(sys.flags),
            "strict": _msgpack.STRICT_MSGPACK_ENABLED,
            "encoding": sys.stdout.encoding,
            "zones": time.tzname,
            "project": langsmith.utils.get_tracer_project(),
        },
    }


looks.start(look)

does = Pipeline("spawned.does", version="1", event=Order)


@does.node
async def do(state: State[Order]) -> None:
    """Print, or end the process."""
    order = state.event
    if order.say:
        print(f"{order.say} out")  # noqa: T201 - it is what is looked for
        print(f"{order.say} err", file=sys.stderr)  # noqa: T201
        command = ["/bin/echo", f"{order.say} child"]
        await asyncio.to_thread(subprocess.run, command, check=True)
    if order.leave is not None:
        os._exit(order.leave)


does.start(do)

_ON_LINUX = sys.platform == "linux"


def _chances() -> dict[str, list[str]]:
    drawn = {
        "random": lambda: str(random.random()),  # noqa: S311
        "uuid4": lambda: str(uuid.uuid4()),
        "uuid6": lambda: str(uuid6()),
        "uuid7": new_id,
    }
    return {name: [draw() for _ in range(CHANCES)] for name, draw in drawn.items()}


def _signals() -> dict[str, str]:
    """The masks of this process, as the kernel tells them."""
    if not _ON_LINUX:
        return {}
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split(":\t", 1) for line in lines if line.startswith(("SigBlk", "SigIgn")))
    return dict(pairs)
