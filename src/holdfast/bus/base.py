"""The contract of the bus: small notices with ids, never payloads; a doorbell, not the truth."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from holdfast.domain.payload import encode
from holdfast.errors import HubSilent
from holdfast.telemetry import logger

from .outside import Outside

log = logger("bus")

QUEUED = "event.queued"  # something may be claimed
ENDED = "event.ended"  # an event reached a status in which it rests
CANCEL = "execution.cancel"  # a running execution is to be stopped
PAUSE = "execution.pause"  # … before its next step, to go on later
HALTED = "event.halted"  # something waits, perhaps for a time
DELAYED = "event.delayed"  # something is queued for a later time
BREAKER = "breaker.moved"  # a breaker was opened or closed; the store says which
CONTEXT_CACHE = "context_cache.moved"  # a cache was made, or will not be; the store says which
BUDGETS = "budgets.changed"  # a budget was set or removed; the store says which
CHANGED = "execution.changed"  # an execution that another hub shows has come further
KEYS = "keys.changed"  # an API key was made or taken back
PROMPTS = "prompts.moved"  # a label of a prompt was moved
AGENTS = "agents.changed"  # `target` was changed, or is to be started or stopped
PROCESS = "process.moved"  # an agent's process has another status; `target` says whose
GAP = "bus.gap"  # notices may have been lost: look at the store

MUST_ARRIVE = frozenset({CANCEL, PAUSE, KEYS, PROMPTS, AGENTS})
"""Topics whose notices are kept for a hub that is out of reach for a while."""

ASK_S = 2.0
"""How long another hub may take to answer."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""A larger answer is not handed over."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One ring of the bell.

    Attributes:
        target: the agent it concerns; None: none, or whichever.
        session_id: the conversation it happened in, where it is an agent's turn.
    """

    topic: str
    event_id: str | None = None
    execution_id: str | None = None
    status: str | None = None
    target: str | None = None
    session_id: str | None = None


Answerer = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Answers a question of another hub with JSON."""


class Bus(ABC):
    """Carries notices. They may be lost; whoever listens must be right without them, only later.
    They may come twice; a second one changes nothing.

    A notice reaches the listeners of its own hub at once and those of the other hubs soon. After
    a time in which some may have been lost every listener of `GAP` is told.

    Attributes:
        joins: whether other hubs can be reached over it.
        hub: the name of this one, its boot id.
    """

    joins: ClassVar[bool]

    def __init__(self, hub: str) -> None:
        self.hub = hub
        self._listeners: dict[str, list[Callable[[Notice], None]]] = {}
        self._answerers: dict[str, Answerer] = {}

    def publish(self, notice: Notice) -> None:
        """Send a notice; returns at once. Only to be called after the commit it speaks of."""
        self.deliver(notice)
        self._send(notice)

    def listen(self, topic: str, call: Callable[[Notice], None]) -> Callable[[], None]:
        """Call `call` in the loop for each notice of `topic`; the returned function ends that."""
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(call)

        def stop() -> None:
            if call in listeners:
                listeners.remove(call)

        return stop

    def deliver(self, notice: Notice) -> None:
        """Tell the listeners of this hub, in the order of listening; one's fault is its own."""
        for call in tuple(self._listeners.get(notice.topic, ())):
            try:
                call(notice)
            except Exception as error:
                log.error("bus.listener_failed", topic=notice.topic, exc_info=error)

    def answer(self, verb: str, call: Answerer) -> None:
        """Let `call` answer the questions `verb` of other hubs."""
        self._answerers[verb] = call

    async def ask(
        self, hub: str, verb: str, args: Mapping[str, Any], *, within_s: float = ASK_S
    ) -> Any:
        """Ask another hub.

        Args:
            hub: its boot id.
            verb: what it answers, see `answer`.
            args: JSON.
            within_s: how long to wait.

        Raises:
            HubSilent: it is not on the bus, failed, or did not answer in time.
        """
        question = orjson.dumps({"verb": verb, "args": args})
        try:
            async with asyncio.timeout(within_s):
                answer = orjson.loads(await self._ask(hub, question))
        except TimeoutError:
            raise HubSilent(f"hub {hub} did not answer within {within_s:g} s") from None
        if "error" in answer:
            raise HubSilent(f"hub {hub} could not answer {verb}: {answer['error']}")
        return answer["value"]

    async def _reply(self, question: bytes) -> bytes:
        """The answer to a question that came over the bus."""
        try:
            asked = orjson.loads(question)
            answer = encode({"value": await self._answerers[asked["verb"]](asked["args"])})
        except Exception as error:
            log.error("bus.answer_failed", exc_info=error)
            return orjson.dumps({"error": f"{type(error).__name__}: {error}"})
        if len(answer) > MAX_ANSWER_BYTES:
            return orjson.dumps({"error": f"the answer has {len(answer)} bytes"})
        return answer

    def outside(self) -> Outside | None:
        """What other programs use on its server; None where there is none."""
        return None

    @property
    @abstractmethod
    def joined(self) -> bool:
        """Whether other hubs can be reached now."""

    @abstractmethod
    async def start(self) -> None:
        """Join the other hubs, if they can be reached now; else later, in the background."""

    @abstractmethod
    async def close(self) -> None:
        """Send what waits, as far as that is quick, and leave."""

    @abstractmethod
    def _send(self, notice: Notice) -> None:
        """Hand a notice to the other hubs; returns at once."""

    @abstractmethod
    async def _ask(self, hub: str, question: bytes) -> bytes:
        """Bring a question to a hub's `_reply` and its answer back.

        Raises:
            HubSilent: it cannot be reached.
        """
