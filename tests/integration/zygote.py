"""One zygote for the runners of all hubs in a test process."""

from __future__ import annotations

import atexit
import os
from functools import cache

from holdfast.runner.process import Spawner, open_spawner


@cache
def zygote() -> Spawner:
    """Where the runners of hubs in this process come from.

    One of its own would cost each hub a second of imports. What a hub does with its own is shown
    by those that run as processes, and by the tests of spawners.
    """
    environment = {"PATH": os.environ["PATH"]}
    spawner = open_spawner("auto", ("holdfast.agents.build",), environment=environment)
    atexit.register(spawner.close)
    return spawner
