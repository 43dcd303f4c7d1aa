"""What differs between two recorded executions: steps aligned by where they stand, not by time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from enum import StrEnum
from typing import Any, cast

import orjson

from .redaction import same
from .replays import Path, Recorded, RecordedAttempt, RecordedStep, path_text

SCHEMA_PARAMETERS = frozenset({"response_format", "json_schema", "schema_name"})
"""Parameters of a call that say which answer is wanted, by provider."""

CONTEXT_LINES = 2
"""Unchanged lines shown around changed ones."""


class Verdict(StrEnum):
    """What became of a step from one execution to the other."""

    SAME = "same"
    CHANGED = "changed"
    GIVEN = "given"  # one of them took the other's result, or a cached one, instead of running
    ONLY_A = "only_a"
    ONLY_B = "only_b"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        what: `prompt.version` (of one of the registry), `prompt.system`, `prompt.user`,
            `messages` (others that were sent), `model`,
            `schema` (of the answer), `parameters`, `answer`, `validation`, `attempts`, `output`,
            `error`, `status`; of an execution also `data`, `version`, `code_version`, `name`.
        a: before.
        b: after.
    """

    what: str
    a: Any
    b: Any

    def lines(self) -> list[str]:
        """A unified diff of the two as text."""
        made = unified_diff(_lines(self.a), _lines(self.b), "a", "b", n=CONTEXT_LINES, lineterm="")
        return list(made)[2:]


@dataclass(frozen=True, slots=True)
class Pair:
    """A step in both executions, or in one of them."""

    path: Path
    a: RecordedStep | None
    b: RecordedStep | None
    verdict: Verdict
    changes: tuple[Change, ...] = ()

    @property
    def name(self) -> str:
        """Its place, for people."""
        return path_text(self.path)

    @property
    def differs(self) -> bool:
        """Whether it is to be looked at."""
        return self.verdict not in (Verdict.SAME, Verdict.GIVEN)


@dataclass(frozen=True, slots=True)
class Diff:
    """Two executions side by side.

    Attributes:
        changes: of the executions as wholes.
        pairs: their steps, in the order of starting.
        order: paths of the steps that differ, in the order of ending: the first is where the two
            begin to part.
    """

    a: Recorded
    b: Recorded
    changes: tuple[Change, ...]
    pairs: tuple[Pair, ...]
    order: tuple[Path, ...] = field(default=())

    @property
    def differing(self) -> list[Pair]:
        """The steps that differ, in the order of ending."""
        known = {pair.path: pair for pair in self.pairs}
        return [known[path] for path in self.order]


def diff(a: Recorded, b: Recorded) -> Diff:
    """Compare two executions; times, tokens and cost are no difference."""
    in_a = {path: step for step, path in zip(a.steps, a.paths().values(), strict=True)}
    in_b = {path: step for step, path in zip(b.steps, b.paths().values(), strict=True)}
    given = {path for path in in_a.keys() | in_b.keys() if _given(in_a.get(path), in_b.get(path))}
    pairs = tuple(_pair(path, in_a, in_b, given) for path in _merged(list(in_a), list(in_b)))
    differing = {pair.path for pair in pairs if pair.differs}
    order = tuple(path for path in _by_end([pair.path for pair in pairs]) if path in differing)
    return Diff(a, b, tuple(_of_whole(a, b)), pairs, order)


def _pair(
    path: Path,
    in_a: Mapping[Path, RecordedStep],
    in_b: Mapping[Path, RecordedStep],
    given: set[Path],
) -> Pair:
    a, b = in_a.get(path), in_b.get(path)
    if any(path[:depth] in given for depth in range(1, len(path))):
        return Pair(path, a, b, Verdict.GIVEN)  # beneath a result that was taken over
    if a is None or b is None:
        return Pair(path, a, b, Verdict.ONLY_B if a is None else Verdict.ONLY_A)
    taken = path in given
    changes = tuple(_of_results(a, b) if taken else _of_steps(a, b))
    if changes:
        return Pair(path, a, b, Verdict.CHANGED, changes)
    return Pair(path, a, b, Verdict.GIVEN if taken else Verdict.SAME)


def _given(a: RecordedStep | None, b: RecordedStep | None) -> bool:
    return a is not None and b is not None and a.given != b.given


def _of_whole(a: Recorded, b: Recorded) -> Iterator[Change]:
    for what in ("name", "version", "code_version", "data", "status", "output"):
        old, new = getattr(a, what), getattr(b, what)
        if not same(old, new):
            yield Change(what, old, new)
    yield from _of_errors(a.error, b.error)


def _of_results(a: RecordedStep, b: RecordedStep) -> Iterator[Change]:
    if not same(a.output, b.output):
        yield Change("output", a.output, b.output)


def _of_steps(a: RecordedStep, b: RecordedStep) -> Iterator[Change]:
    yield from _of_calls(a.attempts, b.attempts)
    ended_alike = a.status == b.status and same(a.skip_reason, b.skip_reason)
    if not ended_alike and not (a.given and b.given):
        yield Change("status", _status(a), _status(b))
    yield from _of_results(a, b)
    yield from _of_errors(a.error, b.error)


def _of_calls(a: Sequence[RecordedAttempt], b: Sequence[RecordedAttempt]) -> Iterator[Change]:
    seen: set[str] = set()
    for old, new in zip(a, b, strict=False):
        # What was asked first is asked again with each further try: it is told once.
        asked = [] if seen & _PROMPT else list(_of_prompts(old.messages, new.messages))
        for change in (
            *_of_versions(old, new),
            *asked,
            *_of_parameters(old, new),
            *_of_answers(old, new),
        ):
            if change.what not in seen:
                seen.add(change.what)
                yield change
    if len(a) != len(b):
        yield Change("attempts", len(a), len(b))


def _of_versions(a: RecordedAttempt, b: RecordedAttempt) -> Iterator[Change]:
    if a.prompt and b.prompt and a.prompt["hash"] != b.prompt["hash"]:
        yield Change("prompt.version", _named(a.prompt), _named(b.prompt))


def _named(prompt: Mapping[str, Any]) -> str:
    return f"{prompt['name']}@{prompt['label']} {prompt['hash']}"


_PROMPT = {"prompt.system", "prompt.user", "messages"}


def _of_prompts(a: Sequence[Any], b: Sequence[Any]) -> Iterator[Change]:
    old, new = _parts(a), _parts(b)
    for what in ("prompt.system", "prompt.user", "messages"):
        if not same(old[what], new[what]):
            yield Change(what, old[what], new[what])


def _parts(messages: Sequence[Any]) -> dict[str, Any]:
    """What was sent: the system prompt, the newest user text, and all else."""
    if not all(isinstance(one, Mapping) for one in messages):
        return {"prompt.system": None, "prompt.user": list(messages), "messages": []}
    left: list[Mapping[str, Any]] = list(messages)
    system = next((one for one in left if one.get("role") == "system"), None)
    user = next((one for one in reversed(left) if one.get("role") == "user"), None)
    return {
        "prompt.system": None if system is None else system.get("content"),
        "prompt.user": None if user is None else user.get("content"),
        "messages": [one for one in left if one is not system and one is not user],
    }


def _of_parameters(a: RecordedAttempt, b: RecordedAttempt) -> Iterator[Change]:
    old, new = _asked_model(a), _asked_model(b)
    if old != new:
        yield Change("model", old, new)
    names = [name for name in (a.parameters.keys() | b.parameters.keys()) if name != "model"]
    changed = [
        name for name in sorted(names) if not same(a.parameters.get(name), b.parameters.get(name))
    ]
    for what, chosen in (
        ("schema", [name for name in changed if name in SCHEMA_PARAMETERS]),
        ("parameters", [name for name in changed if name not in SCHEMA_PARAMETERS]),
    ):
        if chosen:
            yield Change(
                what,
                {name: a.parameters.get(name) for name in chosen},
                {name: b.parameters.get(name) for name in chosen},
            )


def _asked_model(attempt: RecordedAttempt) -> str | None:
    """Provider and model as they were asked for: an answer may name a model more exactly."""
    if attempt.model is None:
        return None
    return f"{attempt.provider}:{attempt.parameters.get('model', attempt.model)}"


def _of_answers(a: RecordedAttempt, b: RecordedAttempt) -> Iterator[Change]:
    old, new = _said(a), _said(b)
    if not same(old, new):
        yield Change("answer", old, new)
    if a.validation != b.validation:
        yield Change("validation", a.validation, b.validation)


def _said(attempt: RecordedAttempt) -> Any:
    if not isinstance(attempt.answer, Mapping):
        return _told(attempt.error) if attempt.error else attempt.answer
    answer = cast("Mapping[str, Any]", attempt.answer)
    calls: Any = answer.get("tool_calls")
    return (
        {"content": answer.get("content"), "tool_calls": calls} if calls else answer.get("content")
    )


def _of_errors(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> Iterator[Change]:
    if not same(_told(a), _told(b)):
        yield Change("error", _told(a), _told(b))


def _told(error: Mapping[str, Any] | None) -> str | None:
    """An error without where it was raised: its lines move with every edit."""
    if error is None:
        return None
    kind = error.get("type") or error.get("code") or ""
    return f"{kind}: {error.get('message', '')}"


def _status(step: RecordedStep) -> str:
    return f"{step.status}: {step.skip_reason}" if step.skip_reason else step.status


def _merged(a: list[Path], b: list[Path]) -> list[Path]:
    """All paths in the order of starting; between two that are in both, those only in `b` first."""
    known, common = set(b), set(a)
    after: dict[Path | None, list[Path]] = {}
    last: Path | None = None
    for path in a:
        if path in known:
            last = path
        else:
            after.setdefault(last, []).append(path)
    merged: list[Path] = []
    left = after.get(None, [])
    for path in b:
        if path in common:
            merged += left
            left = after.get(path, [])
        merged.append(path)
    return merged + left


def _by_end(paths: Sequence[Path]) -> list[Path]:
    """Steps after those beneath them, for what changes below changes what is above."""
    below: dict[Path, list[Path]] = {}
    for path in paths:
        below.setdefault(path[:-1], []).append(path)

    def ended(above: Path) -> Iterator[Path]:
        for path in below.get(above, []):
            yield from ended(path)
            yield path

    return list(ended(()))


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines()
    return (
        orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode().splitlines()
    )
