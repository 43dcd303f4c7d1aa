"""Replays: what a record hands on to a run that repeats it, and how that run is to go.

`Recorded` is a record with its texts in place. It travels to the run, stands in the fixtures of
exported tests and is what two executions are compared by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast

import orjson

from .executions import Attempt, Execution, Step, usd
from .payload import Payload, encode, text_hash

REPLAYED = "replayed"
"""What is said of an attempt's tokens when its answer came from a record: nobody was asked."""

FROM_RECORD = "replayed from execution "
"""How the reason begins of a step that a replay passed over for its recorded result."""

FROM_CACHE = "cached from execution "
"""How the reason begins of a step whose result a cache had."""

Answers = Literal["recorded", "live"]
Unrecorded = Literal["fail", "live"]

Place = tuple[str, int | None, int]
"""A step among those beside it: its name, its item's index in a map, which of its namesakes."""

Path = tuple[Place, ...]
"""Where a step stands: the places of each step above it, and its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a replay is to run.

    Attributes:
        answers: where answers of models and tools come from: the record, or those asked anew.
        unrecorded: what follows where the record has none: the replay fails, or asks.
        start: name of the node from which on everything runs live; None for no such node.
        prompts: by node, templates that stand for its `user` and `system` prompt; or `version`,
            `name` and `label` of one of the registry.
        aliases: by model alias, the one to ask instead.
    """

    answers: Answers = "recorded"
    unrecorded: Unrecorded = "fail"
    start: str | None = None
    prompts: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def needs_record(self) -> bool:
        """Whether anything of the record is given to the run."""
        return self.answers == "recorded" or self.start is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAttempt:
    """One try of a recorded step, its texts in place."""

    n: int
    call: int | None = None  # n of the try with which its model call began
    status: str
    provider: str | None = None
    model: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: list[Any] = field(default_factory=list[Any])  # as they were sent
    answer: Any = None  # the raw response
    validation: str | None = None
    tokens: dict[str, int | None] = field(default_factory=dict[str, int | None])
    usage: str = "none"
    cost_usd: str | None = None
    error: dict[str, Any] | None = None
    error_class: str | None = None
    http_status: int | None = None
    prompt: dict[str, Any] | None = None  # `domain.prompts.Pin` of a prompt of the registry


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStep:
    """One recorded step, its texts in place.

    Attributes:
        version: of the node; None for steps of graphs made elsewhere.
        mark: its place in the lists of the maps around it; empty outside of maps.
        digest: of its input, where namesakes ran beside it.
        end: number of its end among the changes; orders steps by when they were done.
    """

    step: int
    parent: int | None
    kind: str
    operation: str
    version: str | None = None
    status: str
    skip_reason: str | None = None
    mark: tuple[int, ...] = ()
    digest: str | None = None
    output: Any = None
    error: dict[str, Any] | None = None
    end: int = 0
    duration_ms: float | None = None
    attempts: tuple[RecordedAttempt, ...] = ()

    @property
    def ended_well(self) -> bool:
        """Whether it has a result of its own."""
        return self.status in ("succeeded", "skipped")

    @property
    def given(self) -> bool:
        """Whether its result was not made by it: a cache or another record had it."""
        return (self.skip_reason or "").startswith((FROM_RECORD, FROM_CACHE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An execution as it was recorded, ready to be repeated or compared.

    Attributes:
        waits: what it waited for and got, in order, each `{"kind", "name", "answer"}`.
        submitted: events that it sent, in order, each `{"id", "type", "data"}`.
    """

    execution_id: str
    name: str
    version: str
    code_version: str
    status: str
    data: Any
    output: Any = None
    error: dict[str, Any] | None = None
    steps: tuple[RecordedStep, ...] = ()
    waits: tuple[dict[str, Any], ...] = ()
    submitted: tuple[dict[str, Any], ...] = ()

    def paths(self) -> dict[int, Path]:
        """Where each step stands, by its number."""
        places = Places()
        return {
            one.step: places.enter(one.step, one.parent, one.operation, one.mark)
            for one in self.steps
        }

    @classmethod
    def of(
        cls,
        execution: Execution,
        steps: Sequence[Step],
        attempts: Sequence[Attempt],
        payload: Payload,
        *,
        data: Any,
        submitted: Iterable[dict[str, Any]] = (),
    ) -> Recorded:
        """Out of a stored or a running record."""
        tries: dict[int, list[RecordedAttempt]] = {}
        for one in attempts:
            tries.setdefault(one.step, []).append(_attempt(one, payload))
        names = Counter((one.parent, one.operation) for one in steps)
        return cls(
            execution_id=execution.id,
            name=execution.name,
            version=execution.graph_version,
            code_version=execution.code_version,
            status=execution.status.value,
            data=data,
            output=payload.get(execution.output),
            error=execution.error,
            steps=tuple(
                _step(one, payload, tries.get(one.step, []), names[one.parent, one.operation] > 1)
                for one in steps
            ),
            waits=tuple(
                {"kind": wait["kind"], "name": wait["name"], "answer": stop["answers"][wait["id"]]}
                for stop in execution.stops or ()
                for wait in stop["waits"]
                if wait["id"] in stop.get("answers", {})
            ),
            submitted=tuple(submitted),
        )

    def after(self, earlier: Recorded) -> Recorded:
        """This execution with what a crashed one had done, from whose checkpoints it went on.

        A step that ended, but whose checkpoint was not stored before the crash, was done again.
        """
        done = [one for one in earlier.steps if one.parent is None and one.ended_well]
        if done and self.steps and done[-1].operation == self.steps[0].operation:
            del done[-1]
        kept = {one.step for one in done}
        for one in earlier.steps:
            if one.parent in kept:
                kept.add(one.step)
        before = tuple(one for one in earlier.steps if one.step in kept)
        shift = max(kept, default=0)
        steps = tuple(
            replace(
                one,
                step=one.step + shift,
                parent=None if one.parent is None else one.parent + shift,
            )
            for one in self.steps
        )
        return replace(self, steps=before + steps, waits=earlier.waits + self.waits)

    def to_json(self) -> dict[str, Any]:
        """The inverse of `recorded_from`."""
        return asdict(self)

    def for_run(self) -> dict[str, Any]:
        """As `to_json`, without what a run has no use for: what was sent, what plain nodes gave."""
        written = self.to_json()
        for step in written["steps"]:
            if step["version"] is None and step["kind"] not in ("tool", "retriever"):
                step["output"] = None
            for attempt in step["attempts"]:
                attempt["messages"] = []
        return written


def recorded_from(written: Mapping[str, Any]) -> Recorded:
    """A record out of its JSON.

    Raises:
        ValueError: a field is missing or unknown.
    """
    try:
        given: Iterable[dict[str, Any]] = written.get("steps", ())
        steps = tuple(map(_step_from, given))
        lists: dict[str, Any] = {
            "steps": steps,
            "waits": tuple(written.get("waits", ())),
            "submitted": tuple(written.get("submitted", ())),
        }
        return Recorded(**{**written, **lists})
    except TypeError as error:
        raise ValueError(f"not a recorded execution: {error}") from error


def _step_from(written: Mapping[str, Any]) -> RecordedStep:
    tries: Iterable[dict[str, Any]] = written.get("attempts", ())
    lists: dict[str, Any] = {
        "mark": tuple(written.get("mark", ())),
        "attempts": tuple(RecordedAttempt(**one) for one in tries),
    }
    return RecordedStep(**{**written, **lists})


class Places:
    """Tells steps where they stand, in the order in which they start."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Path, tuple[int, ...]]] = {}
        self._seen: Counter[tuple[Path, str, int | None]] = Counter()

    def enter(self, step: int, parent: int | None, operation: str, mark: tuple[int, ...]) -> Path:
        """Where a step stands that has just started."""
        above, outer = self._known.get(parent or 0, ((), ()))
        # Steps inside of an item's have its mark too; it tells only the item apart.
        item = mark[-1] if len(mark) > len(outer) else None
        key = above, operation, item
        path = (*above, (operation, item, self._seen[key]))
        self._seen[key] += 1
        self._known[step] = path, mark
        return path


def path_text(path: Path) -> str:
    """A path for people: `judge/intent`, `each/score[2]`, `draft#2` for the second of a loop."""
    return "/".join(
        name + ("" if item is None else f"[{item}]") + (f"#{nth + 1}" if nth else "")
        for name, item, nth in path
    )


def mark_of(value: Any) -> tuple[int, ...]:
    """Where an input's item stands in the lists of the maps around it."""
    if not isinstance(value, Mapping):
        return ()
    within: Any = cast("Mapping[str, Any]", value).get("within")
    items = cast("Sequence[Any]", within or ())
    return tuple(map(_index, items))


def _index(item: Any) -> int:
    given: Any = cast("dict[str, Any]", item)["index"] if isinstance(item, dict) else item.index
    return int(given)


def digest_of(value: Any) -> str:
    """Identity of an input, by the JSON a record keeps of it."""
    canonical = orjson.dumps(orjson.loads(encode(value)), option=orjson.OPT_SORT_KEYS)
    return text_hash(canonical.decode())


def _step(
    step: Step, payload: Payload, attempts: Sequence[RecordedAttempt], namesakes: bool
) -> RecordedStep:
    given = payload.get(step.input)
    mark = mark_of(given) if step.operation_version is not None else ()
    return RecordedStep(
        step=step.step,
        parent=step.parent,
        kind=step.kind,
        operation=step.operation,
        version=step.operation_version,
        status=step.status.value,
        skip_reason=step.skip_reason,
        mark=mark,
        digest=digest_of(given) if namesakes and not mark else None,
        output=payload.get(step.output),
        error=step.error,
        end=step.end_seq or step.seq,
        duration_ms=None if step.duration_us is None else step.duration_us / 1000,
        attempts=tuple(attempts),
    )


def _attempt(attempt: Attempt, payload: Payload) -> RecordedAttempt:
    cost = usd(attempt.cost_pico)
    return RecordedAttempt(
        n=attempt.n,
        call=attempt.call,
        status=attempt.status.value,
        provider=attempt.provider,
        model=attempt.model,
        parameters={
            key: payload.get(value["$"]) if _points(value) else value
            for key, value in attempt.parameters.items()
        },
        messages=payload.get(attempt.messages) or [],
        answer=payload.get(attempt.raw_response),
        validation=attempt.validation,
        tokens={
            "input": attempt.tokens_input,
            "cached": attempt.tokens_cached,
            "cache_write": attempt.tokens_cache_write,
            "output": attempt.tokens_output,
            "reasoning": attempt.tokens_reasoning,
        },
        usage=attempt.usage,
        cost_usd=None if cost is None else f"{cost:f}",
        error=attempt.error,
        error_class=attempt.error_class,
        http_status=attempt.http_status,
        prompt={
            "name": attempt.prompt_name,
            "label": attempt.prompt_label,
            "hash": attempt.prompt_version,
        }
        if attempt.prompt_name
        else None,
    )


def _points(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"$"} and isinstance(value["$"], int)
