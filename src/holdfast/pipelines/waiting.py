"""Nodes that wait: for a person's answer, for a time, for an event.

Such a node interrupts its graph. The execution halts and holds no runner; when it goes on the node
runs again, this time with what it waited for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt
from pydantic import TypeAdapter, ValidationError

from holdfast.domain.halts import WaitKind
from holdfast.domain.ids import MICROS
from holdfast.errors import DeclarationError, InvalidInput, WaitExpired

from .nodes import Node
from .prompts import Prompt
from .schemas import refused
from .state import State

R = TypeVar("R")

ASKED = "holdfast.wait"
"""Marks an interrupt as one of these nodes'; a foreign graph's is whatever it passes."""

Seconds = float | timedelta


class WaitingNode(Node[R]):
    """Halts the execution until what it waits for is there."""

    async def run(self, state: State, config: RunnableConfig) -> R:  # noqa: ARG002 - the contract
        """Interrupt, or when it goes on give what came.

        Raises:
            WaitExpired: its time was over first.
        """
        return self.gives(interrupted(self, self.asks(state)))

    waits_for: ClassVar[WaitKind]
    awaited: ClassVar[str]

    @abstractmethod
    def asks(self, state: State) -> dict[str, Any]:
        """Fields of `domain.halts.Wait`."""

    @abstractmethod
    def gives(self, came: Mapping[str, Any]) -> R:
        """The node's result, out of what came."""


def interrupted(node: WaitingNode[Any], asks: Mapping[str, Any]) -> Mapping[str, Any]:
    """Halt here, or when the execution goes on give what came.

    Raises:
        WaitExpired: the node's time was over first.
    """
    asked = {"kind": node.waits_for.value, "name": node.name, **asks}
    came = cast("Mapping[str, Any]", interrupt({ASKED: asked}))
    if came.get("expired"):
        raise WaitExpired(
            f"{node.where} waited for {node.awaited} until its time was over",
            hint="give it more timeout=, or go on without: on_failure=",
        )
    return came


class AskNode(WaitingNode[R]):
    """A human checkpoint: a question, and an answer that must fit a schema."""

    kind: ClassVar[str] = "human"
    waits_for = WaitKind.ANSWER
    awaited = "an answer"

    def __init__(
        self,
        name: str,
        *,
        question: str | Callable[[State], Any],
        answer: Any,
        timeout: Seconds | None,
        pipeline: str,
        version: str,
    ) -> None:
        super().__init__(name, pipeline=pipeline, version=version)
        self.question = Prompt(question, self.where) if isinstance(question, str) else question
        self.answer = answer
        self.timeout_us = _positive(timeout, self.where)
        self.adapter: TypeAdapter[Any] = TypeAdapter(answer)

    def asks(self, state: State) -> dict[str, Any]:
        """The question and the answer's schema."""
        asked = self.question
        question = asked.render(state) if isinstance(asked, Prompt) else asked(state)
        return {
            "question": question,
            "schema": self.adapter.json_schema(),
            "wake_in": self.timeout_us,
        }

    def kept_type(self) -> Any:
        """The answer's."""
        return self.answer

    def check_question(self, nodes: Collection[str]) -> None:
        """Prove that the question's template can be rendered.

        Raises:
            DeclarationError: it uses a name that is none of `nodes`.
        """
        if isinstance(self.question, Prompt):
            self.question.check(nodes)

    def gives(self, came: Mapping[str, Any]) -> R:
        """The answer as an instance of its schema."""
        return self._read(came["answer"])

    def check(self, answer: Any) -> None:
        """Hold an answer against the schema.

        Raises:
            InvalidInput: with each wrong or unknown field.
        """
        try:
            self._read(answer)
        except ValidationError as error:
            raise refused(self.pipeline, error, "answer") from error

    def _read(self, answer: Any) -> Any:
        strict = {} if self.answer is Any else {"extra": "forbid"}
        return self.adapter.validate_python(answer, **cast("Any", strict))

    def sources(self) -> list[object]:
        """The answer's schema."""
        return [self.answer] if isinstance(self.answer, type) else []


class SleepNode(WaitingNode[None]):
    """Waits for a time."""

    kind: ClassVar[str] = "wait"
    waits_for = WaitKind.TIME
    awaited = "a time"

    def __init__(
        self,
        name: str,
        *,
        seconds: Seconds | None,
        until: Callable[[State], datetime] | None,
        pipeline: str,
        version: str,
    ) -> None:
        super().__init__(name, pipeline=pipeline, version=version)
        if (seconds is None) == (until is None):
            raise DeclarationError(f"{self.where}: say either seconds= or until=")
        self.seconds_us = _positive(seconds, self.where)
        self.until = until

    def asks(self, state: State) -> dict[str, Any]:
        """When to go on."""
        if self.until is None:
            return {"wake_in": self.seconds_us}
        moment = self.until(state)
        if not isinstance(moment, datetime) or moment.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance] - user code
            raise DeclarationError(f"{self.where}: until= gave {moment!r}, no time with a zone")
        return {"wake_at": round(moment.timestamp() * MICROS)}

    def gives(self, came: Mapping[str, Any]) -> None:
        """Nothing: its time has come."""


class EventNode(WaitingNode[Any]):
    """Waits for an event; the result is its data."""

    kind: ClassVar[str] = "wait"
    waits_for = WaitKind.EVENT
    awaited = "an event"

    def __init__(
        self,
        name: str,
        *,
        event: str,
        subject: str | Callable[[State], str] | None,
        timeout: Seconds | None,
        pipeline: str,
        version: str,
    ) -> None:
        super().__init__(name, pipeline=pipeline, version=version)
        if not event:
            raise DeclarationError(f"{self.where}: event= is empty")
        self.event = event
        self.subject = subject
        self.timeout_us = _positive(timeout, self.where)

    def asks(self, state: State) -> dict[str, Any]:
        """Of which type, about what, until when."""
        subject = self.subject(state) if callable(self.subject) else self.subject
        return {"awaits": self.event, "subject": subject, "wake_in": self.timeout_us}

    def gives(self, came: Mapping[str, Any]) -> Any:
        """The event's data."""
        return came["data"]

    def describe(self) -> dict[str, Any]:
        """Also the type it waits for."""
        return {**super().describe(), "event": self.event}


def check_free_answer(answer: Any) -> None:
    """Refuse what LangGraph cannot tell from no answer.

    Raises:
        InvalidInput: it is null.
    """
    if answer is None:
        raise InvalidInput(
            "an answer cannot be null",
            fields=[{"field": "answer", "expected": "a value", "got": "null"}],
        )


def _positive(seconds: Seconds | None, where: str) -> int | None:
    if seconds is None:
        return None
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if value <= 0:
        raise DeclarationError(f"{where}: {value:g} s is no time to wait")
    return round(value * MICROS)
