"""Recorded executions as tests: run again offline, and held against what they did."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from holdfast.domain.diff import Change, Diff, Pair, Verdict, diff
from holdfast.domain.ids import new_id
from holdfast.domain.replays import Plan, Recorded, recorded_from
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.errors import InvalidInput, UnknownPipeline
from holdfast.journal.running import Running
from holdfast.llm.factory import Models
from holdfast.operations.export import FIXTURE_FORMAT
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.registry import Registry
from holdfast.ports import Ports, RunSpec

from .ports import ASSESSOR, MemoryEvents, MemorySink, start_of

OUTCOME = ("status", "output", "error")
"""What is compared of the execution as a whole: code may change as long as these stay."""

MOST_LINES = 40
"""Lines of one change that a failing test shows."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a fixture's execution came to when it was run again.

    Attributes:
        recorded: what it did then.
        run: what it did now.
        found: the two compared.
    """

    recorded: Recorded
    run: Recorded
    found: Diff

    @property
    def output(self) -> Any:
        """What came out now."""
        return self.run.output


def replayed(
    pipeline: Declaration | str,
    fixture: Path | str,
    *,
    ignore: Collection[str] = (),
) -> Replayed:
    """Run a recorded execution again, offline, and fail where it differs.

    Models, tools and waits are answered from the fixture; no hub, no database and no key is
    needed. Plain functions run as they are.

    Args:
        pipeline: its declaration, or where that is: `module:attribute`. Named so it may run others
            of its module as children.
        fixture: file that `holdfast executions export ID --pytest DIR` wrote.
        ignore: kinds of changes that are no failure, of `domain.diff.Change.what`: with
            `("prompt.user",)` prompts may be reworded as long as the outcome stays.

    Raises:
        AssertionError: something differs; the message says which step and how.
        InvalidInput: it is no fixture.
    """
    __tracebackhide__ = True
    recorded = read_fixture(Path(fixture))
    if isinstance(pipeline, str):
        registry, name = _declared(pipeline, recorded.name), recorded.name
    else:
        registry, name = Registry([pipeline]), pipeline.name
    declaration = registry.get(name)
    with asyncio.Runner() as runner:
        run = runner.run(_run(registry, declaration, recorded))
    found = diff(recorded, run)
    wrong = _report(found, ignore)
    if wrong:
        told = "\n".join(wrong)
        raise AssertionError(
            f"{declaration.name} no longer does what execution {recorded.execution_id} did:\n{told}"
        )
    return Replayed(recorded, run, found)


def read_fixture(path: Path) -> Recorded:
    """The recorded execution in a fixture.

    Raises:
        InvalidInput: the file is none.
    """
    try:
        written: Any = orjson.loads(path.read_bytes())
        if written["format"] != FIXTURE_FORMAT:
            raise InvalidInput(f"{path} is of format {written['format']}, not {FIXTURE_FORMAT}")
        return recorded_from(written["recorded"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InvalidInput(f"{path} is no fixture: {error}") from error


class _Records:
    """A `RecordsPort` that has one record."""

    def __init__(self, recorded: Recorded) -> None:
        self._written: Mapping[str, Any] = orjson.loads(orjson.dumps(recorded.for_run()))

    async def replayed(self, *, execution_id: str) -> Mapping[str, Any]:  # noqa: ARG002
        """See `RecordsPort.replayed`."""
        return self._written


async def _run(registry: Registry, declaration: Declaration, recorded: Recorded) -> Recorded:
    sink, execution_id = MemorySink(), new_id()
    threads = ExecutionThreads(1)
    asyncio.get_running_loop().set_default_executor(threads)
    engine = Engine(
        registry=registry,
        models=Models({}),
        sink=sink,
        ports=Ports(events=MemoryEvents(), records=_Records(recorded)),
        threads=threads,
    )
    data = orjson.dumps(recorded.data)
    engine.start(
        RunSpec(
            execution_id=execution_id,
            event_id=execution_id,
            owner_id="local",
            kind=declaration.kind,
            name=declaration.name,
            version=declaration.version,
            data=data,
            delivery=1,
            replay=asdict(Plan()),
        )
    )
    await engine.drain()
    running = Running(start_of(execution_id, data=data, target=declaration.name), ASSESSOR)
    for change in sink.changes(execution_id):
        running.apply(change)
    return Recorded.of(
        running.execution(),
        running.steps(),
        running.attempts(),
        running.payload(),
        data=recorded.data,
    )


def _declared(place: str, name: str) -> Registry:
    """The whole app, where it declares the pipeline: that may run others as children."""
    for app in (place.partition(":")[0], place):
        registry = Registry.load([app])
        if name in registry:
            return registry
    for failure in registry.failures:
        raise failure.error
    raise UnknownPipeline(f"{place} declares no pipeline {name}")


def _report(found: Diff, ignore: Collection[str]) -> list[str]:
    lines: list[str] = []
    for pair in found.differing:
        wrong = [change for change in pair.changes if change.what not in ignore]
        if wrong or pair.verdict is not Verdict.CHANGED:
            lines += _step_lines(pair, wrong)
    if lines:  # what came of it all follows from its steps
        return lines
    wrong = [one for one in found.changes if one.what in OUTCOME and one.what not in ignore]
    told = [line for change in wrong for line in _change_lines(change)]
    return ["  its outcome", *told] if told else []


def _step_lines(pair: Pair, wrong: list[Change]) -> list[str]:
    match pair.verdict:
        case Verdict.ONLY_A:
            return [f"  {pair.name}: was not reached"]
        case Verdict.ONLY_B:
            error = pair.b.error if pair.b else None
            told = f": {error['type']}: {error['message']}" if error else ""
            return [f"  {pair.name}: is not on record{told}"]
        case _:
            return [f"  {pair.name}", *(line for change in wrong for line in _change_lines(change))]


def _change_lines(change: Change) -> list[str]:
    shown = change.lines() or [f"- {change.a!r}", f"+ {change.b!r}"]
    return [f"    {change.what}", *(f"      {line}" for line in shown[:MOST_LINES])]
