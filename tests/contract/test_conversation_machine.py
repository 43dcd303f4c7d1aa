"""Agents' turns under the same random orders: what is said lands once, in its place."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from holdfast.domain.conversations import NewTurn
from holdfast.domain.ids import new_id
from holdfast.domain.status import EventStatus
from holdfast.store import Store
from holdfast.store.commands import PutAgent, Submit

from .agents_make import answer, message, version
from .conftest import HOUR
from .queue_model import Expected, Holding
from .test_queue_machine import Queue, histories

E = EventStatus

_SAID = text(
    "SELECT m.event_id, m.session_id, m.turn, m.part, m.role, m.content FROM messages m "
    "JOIN sessions s ON s.id = m.session_id WHERE s.agent_id = :agent ORDER BY m.turn, m.part"
)
_SESSIONS = text("SELECT id, turns, messages, unsummarised FROM sessions WHERE agent_id = :agent")


class Conversations(Queue):
    """The queue of one agent, and its conversations."""

    kind = "agent"

    def __init__(self, store: Store, engine: Any, call: Callable[[Coroutine[Any, Any, Any]], Any]):
        super().__init__(store, engine, call)
        self.target = self.write(PutAgent(version(name=f"a-{new_id()}"))).id
        self.said: dict[str, list[str]] = {}  # by event that brought a message

    def submit_one(
        self, priority: int, session: str | None, *, later: bool = False, **fields: Any
    ) -> None:
        event = self.make.event(
            target=self.target,
            target_kind="agent",
            priority=priority,
            delay_us=HOUR if later else 0,
            **fields,
        )
        turn = None
        if event.origin is None:  # a replay says nothing in a conversation
            turn = NewTurn(
                agent_id=self.target,
                message=message(f"of {event.id}"),
                session_id=None,
                new_session_id=new_id(),
                chat_id=session,
            )
            self.said[event.id] = [f"of {event.id}"]
        assert self.write(Submit(event, turn)).created
        self.events[event.id] = Expected(
            id=event.id,
            data=event.data.decode(),
            priority=priority,
            session=session,
            later=later,
            origin=event.origin,
            replay=event.replay,
        )

    def record(self, holding: Holding, outcome: str) -> Any:
        record = super().record(holding, outcome)
        run = replace(record.execution, session_id=holding.claimed.session_id)
        return replace(
            record,
            execution=run,
            answers=(answer("an answer"), answer("and more")),
            apology=answer("sorry"),
        )

    def finish(self, holding: Holding, outcome: str) -> None:
        fresh = holding.stored is None and self.holds(holding)
        super().finish(holding, outcome)
        event = self.events[holding.claimed.event_id]
        if fresh and event.id in self.said:
            if event.status is E.SUCCEEDED:
                self.said[event.id] += ["an answer", "and more"]
            elif event.status in (E.FAILED, E.DEAD):
                self.said[event.id] += ["sorry"]

    def the_promises_hold(self) -> None:
        super().the_promises_hold()
        found: dict[str, list[str]] = {}
        places: dict[str, list[tuple[int, int]]] = {}
        counts: dict[str, int] = {}
        with self.engine.connect() as db:
            for event_id, session_id, turn, part, role, content in db.execute(
                _SAID, {"agent": self.target}
            ):
                found.setdefault(event_id, []).append(content)
                places.setdefault(event_id, []).append((turn, part))
                counts[session_id] = counts.get(session_id, 0) + 1
                assert (role == "user") == (part == 0)
            sessions = db.execute(_SESSIONS, {"agent": self.target}).all()
        assert found == self.said, "what was said, once, and nothing else"
        for one in places.values():
            ((turn, _), *_) = one
            assert one == [(turn, part) for part in range(len(one))], "numbered within its turn"
        assert {id_: (said, open_) for id_, _, said, open_ in sessions} == {
            id_: (count, count) for id_, count in counts.items()
        }, "counters tell what is there"
        assert sum(turns for _, turns, _, _ in sessions) == len(self.said)


def test_no_order_of_things_breaks_a_conversation(
    reopen: Callable[[], Store], store_url: str, pytestconfig: pytest.Config
) -> None:
    histories(Conversations, reopen, store_url, pytestconfig.getoption("seeds"))
