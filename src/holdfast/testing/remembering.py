"""An in-memory `MemoryPort` for tests: sessions that are given, items that are put."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.domain.conversations import Message, Speaker, Window
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.memory_items import Namespace, fits
from holdfast.domain.splitting import tokens_of
from holdfast.errors import PortError
from holdfast.llm import hashing
from holdfast.memory import facts as key_facts
from holdfast.memory.compaction import block_of
from holdfast.memory.items import listed, within
from holdfast.memory.window import choose
from holdfast.ports import KnowledgeAnswer

SUMMARIES = 3


def said(turn: int, role: str, text: str, *, session_id: str = "session", **more: Any) -> Message:
    """A message as it would be stored; `part` is 0 for the user's and 1 for an answer.

    Args:
        turn: its number, from 1.
        role: `user`, `assistant` or `summary`.
        text: what was said.
        session_id: of the session.
        **more: other fields of `Message`.
    """
    values: dict[str, Any] = {
        "id": f"{session_id}-{turn}-{role}",
        "session_id": session_id,
        "owner_id": "local",
        "turn": turn,
        "part": 0 if role == Speaker.USER else 1,
        "role": Speaker(role),
        "content": text,
        "tokens": tokens_of(text),
        "event_id": f"event-{turn}",
        "execution_id": None,
        "summarised": False,
        "summary_of": (),
        "feedback": None,
        "comment": None,
        "metadata": {},
        "created_at": now_us(),
    }
    return Message(**(values | more))


@dataclass(slots=True)
class KeptItem:
    """An item and what it is found by."""

    value: Mapping[str, Any]
    text: str | None
    created_at: int
    updated_at: int


class MemoryMemory:
    """A `MemoryPort` over lists; it knows one owner, one agent and no time.

    Attributes:
        sessions: messages by session, oldest first; a turn's question is the last of its session.
        facts: by session.
        items: by namespace and key.
        session_of: the session whose turn an execution is.
    """

    def __init__(self, *messages: Message, execution_id: str = "execution") -> None:
        """Keep the messages of one session, whose turn an execution is."""
        self.sessions: dict[str, list[Message]] = {}
        self.facts: dict[str, list[str]] = {}
        self.items_: dict[tuple[Namespace, str], KeptItem] = {}
        self.session_of: dict[str, str] = {}
        for message in messages:
            self.sessions.setdefault(message.session_id, []).append(message)
            self.session_of[execution_id] = message.session_id

    async def window(
        self, *, execution_id: str, token_budget: int, depth: int | None = None
    ) -> Window:
        """See `MemoryPort.window`."""
        session_id = self.session_of.get(execution_id)
        if session_id is None:
            raise PortError(f"execution {execution_id} is no turn of a session")
        messages = self._open(session_id)
        return choose(
            list(reversed(messages)),
            summaries=list(reversed(self._summaries(session_id)))[:SUMMARIES],
            facts=self.facts.get(session_id, []),
            token_budget=token_budget,
            depth=depth,
        ).window

    async def unsummarised(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        session_id: str,
        keep: int,
        block: int,
    ) -> Window:
        """See `MemoryPort.unsummarised`."""
        messages = self._open(session_id)
        if len(messages) < keep + block:
            return Window(summaries=(), messages=())
        return Window(
            summaries=self._summaries(session_id)[-1:],
            messages=block_of(messages[:block]),
            facts=self.facts.get(session_id, []),
        )

    async def summarise(
        self,
        *,
        execution_id: str,
        session_id: str,
        of: Sequence[str],
        summary: str,
        facts: Sequence[str],
    ) -> bool:
        """See `MemoryPort.summarise`."""
        self.facts[session_id] = key_facts.merged(self.facts.get(session_id, []), facts)
        messages = self.sessions[session_id]
        originals = [one for one in messages if one.id in of]
        if any(one.summarised for one in originals):
            return False
        self.sessions[session_id] = [
            replace(one, summarised=True) if one.id in of else one for one in messages
        ]
        first = originals[0]
        self.sessions[session_id].append(
            said(
                first.turn,
                Speaker.SUMMARY,
                summary,
                session_id=session_id,
                id=new_id(),
                part=first.part,
                execution_id=execution_id,
                summary_of=tuple(of),
            )
        )
        return True

    async def items(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        ops: Sequence[Mapping[str, Any]],
    ) -> KnowledgeAnswer:
        """See `MemoryPort.items`."""
        results: list[Any] = [None if op["op"] == "put" else self._read(op) for op in ops]
        for op in ops:
            if op["op"] == "put":
                self._put(op)
        return KnowledgeAnswer(value=results)

    def _open(self, session_id: str) -> list[Message]:
        return [
            one
            for one in self.sessions[session_id]
            if one.role is not Speaker.SUMMARY and not one.summarised
        ]

    def _summaries(self, session_id: str) -> list[Message]:
        found = [one for one in self.sessions[session_id] if one.role is Speaker.SUMMARY]
        return sorted(found, key=lambda one: (one.turn, one.part))

    def _put(self, op: Mapping[str, Any]) -> None:
        place, now = (tuple(op["namespace"]), op["key"]), now_us()
        before = self.items_.pop(place, None)
        if op["value"] is not None:
            made = before.created_at if before else now
            self.items_[place] = KeptItem(op["value"], op["text"], made, now)

    def _read(self, op: Mapping[str, Any]) -> Any:
        match op["op"]:
            case "get":
                place = (tuple(op["namespace"]), op["key"])
                return _told(place, self.items_[place]) if place in self.items_ else None
            case "search":
                found = list(self._found(op))
                if op["query"]:
                    found.sort(key=lambda one: -2 if one["score"] is None else one["score"])
                    found.reverse()
                return found[op["offset"] : op["offset"] + op["limit"]]
            case _:
                return listed({namespace for namespace, _ in self.items_}, op)

    def _found(self, op: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for place, item in self.items_.items():
            if within(place[0], op["prefix"]) and fits(item.value, op["filter"] or {}):
                scored = op["query"] and item.text is not None
                score = _likeness(op["query"], item.text or "") if scored else None
                yield _told(place, item, score)


def _told(
    place: tuple[Namespace, str], item: KeptItem, score: float | None = None
) -> dict[str, Any]:
    return {
        "namespace": place[0],
        "key": place[1],
        "value": item.value,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
        "score": score,
    }


def _likeness(one: str, other: str) -> float:
    return math.fsum(a * b for a, b in zip(hashing.embed(one), hashing.embed(other), strict=True))
