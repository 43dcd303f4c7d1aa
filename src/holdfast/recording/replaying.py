"""A run that repeats a recorded one: which recorded step each of its steps is, and what that had.

Steps are matched by where they stand (`domain.replays.Path`), never by the order in which side by
side ones arrive; attempts by their number within the step.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import orjson

from holdfast.domain.payload import encode
from holdfast.domain.replays import (
    Place,
    Places,
    Plan,
    Recorded,
    RecordedAttempt,
    RecordedStep,
    digest_of,
    mark_of,
    path_text,
)
from holdfast.domain.status import StepStatus
from holdfast.errors import ModelError, ReplayMismatch
from holdfast.llm.failures import RecordedError

replaying_now: ContextVar[Replaying | None] = ContextVar("holdfast_replaying", default=None)
"""The replay that the present run is, if it is one that a record answers."""


class Replaying:
    """One replay under way. Its methods may be called from any thread.

    Args:
        recorded: what is repeated.
        plan: how.
        onward: names of the nodes that `plan.start` leads to, itself included.

    Attributes:
        mismatch: the first thing asked for that the record does not have.
    """

    def __init__(
        self, recorded: Recorded, plan: Plan, *, onward: frozenset[str] = frozenset()
    ) -> None:
        self.recorded = recorded
        self.plan = plan
        self.mismatch: ReplayMismatch | None = None
        self._onward = onward
        self._lock = threading.Lock()
        self._places = Places()
        self._begun = False  # with `plan.start`
        self._live: set[int] = set()
        self._matched: dict[int, RecordedStep | None] = {}
        self._used: set[int] = set()
        self._below: dict[int | None, dict[tuple[str, int | None], list[RecordedStep]]] = {}
        self._children: dict[int, list[RecordedStep]] = {}
        known = recorded.paths()
        for step in recorded.steps:
            name, item, _ = known[step.step][-1]
            self._below.setdefault(step.parent, {}).setdefault((name, item), []).append(step)
            if step.parent is not None:
                self._children.setdefault(step.parent, []).append(step)
        self._waits = list(recorded.waits)
        self._submitted = list(recorded.submitted)

    def started(
        self, step: int, parent: int | None, operation: str, *, ours: bool, given: Any
    ) -> None:
        """Find the recorded step that a step which has just started repeats."""
        mark = mark_of(given) if ours else ()
        with self._lock:
            path = self._places.enter(step, parent, operation, mark)
            if parent is None and operation == self.plan.start:
                self._begun = True
            if parent in self._live or (
                parent is None and self._begun and operation in self._onward
            ):
                self._live.add(step)
                self._matched[step] = None
                return
            found = self._matched[step] = self._take(parent, path[-1], given)
            if found is not None:
                self._used.add(found.step)

    def _take(self, parent: int | None, place: Place, given: Any) -> RecordedStep | None:
        name, item, nth = place
        above = None if parent is None else self._matched.get(parent)
        if parent is not None and above is None:
            return None
        left = self._below.get(above.step if above else None, {}).get((name, item), [])
        open_ = [one for one in left if one.step not in self._used]
        if not open_:
            return None
        if len(left) > 1 and item is None and any(one.digest for one in left):
            asked = digest_of(given)
            for one in open_:  # side by side they may start in any order
                if one.digest == asked:
                    return one
            if nth < len(left) and left[nth] in open_:
                return left[nth]
        return open_[0]

    def is_live(self, step: int | None) -> bool:
        """Whether a step runs as if there were no record."""
        return step in self._live

    def match(self, step: int | None) -> RecordedStep | None:
        """The recorded step that a step repeats; None when there is none, or when it runs live."""
        return self._matched.get(step) if step is not None else None

    def below(self, recorded: RecordedStep) -> list[RecordedStep]:
        """The recorded steps right below one."""
        return self._children.get(recorded.step, [])

    def passes_over(self, step: int | None) -> RecordedStep | None:
        """The recorded step whose result stands for running this one, if one may."""
        matched = self.match(step)
        if matched is None or not (matched.given or self.plan.start is not None):
            return None
        return matched

    def attempts(self, step: int | None, n: int, what: str) -> Sequence[RecordedAttempt]:
        """The recorded attempts that a model call repeats; none when the model is to be asked.

        Only the last of them may have an answer: the others failed, and others followed in the
        same call.

        Args:
            step: that calls.
            n: number that the call's first attempt has.
            what: calls, for messages.

        Raises:
            ReplayMismatch: the record has no such call, or no answer to it.
        """
        if self.is_live(step):
            return ()
        matched = self.match(step)
        if matched is None:
            return self._refuse(f"{what} asks a model, but the record has no such step")
        found = next((one for one in matched.attempts if one.n == n), None)
        if found is None:
            many = len(matched.attempts)
            return self._refuse(f"{what} asks a model for the {n}. time, on record are {many}")
        same = [one for one in matched.attempts if one.call is not None and one.call == found.call]
        tries = [one for one in same if one.n >= n] or [found]
        for one in tries:
            if one.answer is None and (one.error is None or one.status != StepStatus.FAILED):
                return self._refuse(
                    f"{what}: attempt {one.n} has no answer on record: it {_ended(one)}"
                )
        return tries

    def call(self, step: int | None, what: str) -> RecordedStep | None:
        """The recorded step of a tool's or a retriever's call; None when it is to be made.

        Raises:
            ReplayMismatch: the record has no such call, or no result of it.
        """
        if self.is_live(step):
            return None
        matched = self.match(step)
        if matched is None:
            self._refuse(f"{what} is called, but the record has no such call")
            return None
        if matched.output is None and matched.error is None and matched.status != "succeeded":
            self._refuse(f"the recorded call of {what} was {matched.status} without result")
            return None
        return matched

    def refuse_unanswerable(self, step: int | None, what: str) -> None:
        """Refuse a call of a kind that no record answers, unless it is to be live.

        Raises:
            ReplayMismatch: see `Plan.unrecorded`.
        """
        if not self.is_live(step):
            self._refuse(f"{what} cannot be answered from a record")

    def submitted(self, step: int | None, type: str, data: Mapping[str, Any]) -> str | None:  # noqa: A002 - CloudEvents' name
        """The id of the event that was sent then; None when it is to be sent.

        Raises:
            ReplayMismatch: nothing of the kind was sent.
        """
        if self.is_live(step):
            return None
        plain = orjson.loads(encode(data))
        with self._lock:
            same = [one for one in self._submitted if one["type"] == type]
            found = next((one for one in same if one["data"] == plain), same[0] if same else None)
            if found is not None:
                self._submitted.remove(found)
                return str(found["id"])
        self._refuse(f"an event of type {type} is sent, but the record has none such left")
        return None

    def came(self, wait: Mapping[str, Any]) -> dict[str, Any] | None:
        """What ended a wait; None when it is to be waited for, as after `plan.start`.

        Raises:
            ReplayMismatch: the record has no such wait, or nothing that ended it. Not even with
                `unrecorded="live"` is anybody asked: what goes on after a halt is all live.
        """
        with self._lock:
            if self._begun and wait["name"] in self._onward:
                return None
            for place, one in enumerate(self._waits):
                if (one["kind"], one["name"]) == (wait["kind"], wait["name"]):
                    del self._waits[place]
                    return one["answer"]
        raise self._mismatch(f"{wait['name']} waits, but the record has nothing that ended it")

    def _refuse(self, what: str) -> tuple[()]:
        if self.plan.unrecorded != "live":
            raise self._mismatch(what)
        return ()

    def _mismatch(self, what: str) -> ReplayMismatch:
        error = ReplayMismatch(
            f"{self.recorded.name}: {what}",
            hint=f"replayed is execution {self.recorded.execution_id}; its code or what it asks "
            'has changed. Ask anew where nothing is recorded: unrecorded="live"',
        )
        with self._lock:
            self.mismatch = self.mismatch or error
        return error

    def where(self, step: int | None) -> str:
        """A step's place, for messages."""
        matched = self.match(step)
        if matched is None:
            return "a step"
        return f'node "{path_text(self.recorded.paths()[matched.step])}"'


def error_of(attempt: RecordedAttempt) -> Exception:
    """A recorded provider error, to be raised again: of the same name, message and class."""
    told = attempt.error or {}
    name, message = str(told.get("type", "RecordedError")), str(told.get("message", ""))
    error_class = attempt.error_class or "unknown"
    if "code" not in told:
        return type(name, (RecordedError,), {})(message, error_class, attempt.http_status)
    kind = type(name, (ModelError,), {"code": told["code"]})
    return kind(
        message,
        error_class=error_class,
        http_status=attempt.http_status,
        hint=str(told.get("hint", "")),
    )


def call_error_of(step: RecordedStep) -> Exception:
    """A recorded call's error: Python's own by its name, any other as what it said."""
    told = step.error or {}
    name, message = str(told.get("type", "")), str(told.get("message", ""))
    kind: Any = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:  # a UnicodeDecodeError, say, wants more
            pass
    return RuntimeError(f"{name}: {message}")


def _ended(attempt: RecordedAttempt) -> str:
    return f"was {attempt.status}" if attempt.status != "running" else "had not ended"
