"""The recorder beside MLflow's and Phoenix's tracing: the same traces, on this machine, in turn."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.harness import Line

from .places import Killed, Side, phoenix_server, side
from .side import READABLE_S

ROUNDS = 5
RUNS = 10
DELAYS = 3
KILLED = 30


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """One way to record.

    Attributes:
        name: of the program; its environment and its script are called so.
        how: in which of its ways.
        options: further arguments of its script.
        environ: further variables of its process.
    """

    name: str
    how: str
    options: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict[str, str])

    def start(self, root: Path, url: str, use: str) -> AbstractAsyncContextManager[Side]:
        """Start its script over a store, or a project of the server, of its own."""
        name = self.name.lower()
        project = "-".join([name, str(id(self)), use])
        (root / project).mkdir(exist_ok=True)
        where = (url, project) if name == "phoenix" else (str(root / project),)
        return side(name, f"record_{name}.py", *where, *self.options, environ=self.environ)


OURS = Peer("Holdfast", "to the store of its home")
PEERS = (
    OURS,
    Peer("MLflow", "SQLite, as it comes: spans in batches"),
    Peer(
        "MLflow",
        "SQLite, asynchronous logging off",
        environ={"MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false"},
    ),
    Peer("Phoenix", "server on loopback, as it comes: span by span"),
    Peer("Phoenix", "server on loopback, batch=True", options=("batch",)),
)


async def measure() -> AsyncIterator[Line]:
    """Cost in the caller, time until readable, and what a kill right after the last call leaves."""
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-peers-")))
        (root / "server").mkdir()
        url = await stack.enter_async_context(phoenix_server(root / "server"))
        async with AsyncExitStack() as running:
            sides = {
                peer: await running.enter_async_context(peer.start(root, url, "alive"))
                for peer in PEERS
            }
            for what, calls in (("plain step", False), ("step with a model call", True)):
                async for line in _costs(sides, what, calls=calls):
                    yield line
            async for line in _delays(sides):
                yield line
        for peer in PEERS:
            yield await _killed(peer, root, url)


async def _costs(sides: dict[Peer, Side], what: str, *, calls: bool) -> AsyncIterator[Line]:
    for one in sides.values():
        await one.ask("cost", runs=3, calls=calls)
    rounds = [
        {peer: median(await one.ask("cost", runs=RUNS, calls=calls)) for peer, one in sides.items()}
        for _ in range(ROUNDS)
    ]
    for peer in sides:
        yield Line(
            name=f"{peer.name}, the caller's cost of a {what}",
            value=median(one[peer] for one in rounds),
            unit="ms",
            against=None if peer is OURS else median(one[OURS] for one in rounds),
            ratio=None if peer is OURS else median(one[peer] / one[OURS] for one in rounds),
            bar=0.1 if peer is OURS else None,
            note=peer.how,
        )


async def _delays(sides: dict[Peer, Side]) -> AsyncIterator[Line]:
    for peer, one in sides.items():
        # One that never shows up counts as long as it was waited for.
        waits = [
            1000 * READABLE_S if (wait := await one.ask("delay", calls=True)) is None else wait
            for _ in range(DELAYS)
        ]
        yield Line(
            name=f"{peer.name}, from a trace's end until it can be read",
            value=median(waits),
            unit="ms",
            note=peer.how,
        )


async def _killed(peer: Peer, root: Path, url: str) -> Line:
    async with peer.start(root, url, "killed") as one:
        with suppress(Killed):
            await one.ask("die", runs=KILLED, calls=True)
    async with peer.start(root, url, "killed") as one:
        found = await one.ask("count")
    return Line(
        name=f"{peer.name}, of {KILLED} traces there after SIGKILL",
        value=found,
        unit="traces",
        bar=KILLED if peer is OURS else None,
        at_least=True,
        note=peer.how,
    )
