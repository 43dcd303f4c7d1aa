"""Conversations: sessions, and the messages of their turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

MAX_TEXT_CHARS = 200_000
"""Longest message that is taken in."""


class Speaker(StrEnum):
    """Whose words a message is."""

    USER = "user"
    ASSISTANT = "assistant"
    SUMMARY = "summary"  # stands for older messages in the window; nobody said it


class SessionStatus(StrEnum):
    """Where a session stands."""

    ACTIVE = "active"
    ARCHIVED = "archived"  # kept and shown, takes no further messages


Feedback = Literal["like", "dislike"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One conversation with one agent.

    Attributes:
        id: also the `thread_id` of a graph's checkpoints.
        channel: the door it came in by: `api`, `websocket`, `redis`, `cli`, ….
        chat_id: what the channel calls it; unique for agent and channel. None: it is only known
            by its id.
        user: who talks, as the channel says; anything JSON.
        turns: turns begun; number of the newest.
        messages: rows of it, summaries not counted.
        unsummarised: of these, those that no summary stands for.
    """

    id: str
    owner_id: str
    agent_id: str
    title: str
    channel: str
    chat_id: str | None
    user: Mapping[str, Any]
    metadata: Mapping[str, Any]
    status: SessionStatus
    turns: int
    messages: int
    unsummarised: int
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message before it is stored.

    Attributes:
        role: whose words.
        content: text.
        tokens: of the content, estimated for a window's budget; what a call cost stands in the
            record.
        metadata: anything JSON; of an answer that tells of a failure, `{"error": {"code": …}}`.
    """

    id: str
    role: Speaker
    content: str
    tokens: int
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A stored message.

    Attributes:
        turn: number of the turn it belongs to, from 1; with `part` its place in the session.
        part: 0 for the user's, then the answers. The newest turns' questions may be stored before
            older answers are: this order is that of the talk, not that of arrival.
        event_id: the turn's event.
        execution_id: behind an answer; None for the user's.
        summarised: a summary stands for it in the window; it is kept as it was said.
        summary_of: ids of the messages that this summary stands for, oldest first.
    """

    id: str
    session_id: str
    owner_id: str
    turn: int
    part: int
    role: Speaker
    content: str
    tokens: int
    event_id: str | None
    execution_id: str | None
    summarised: bool
    summary_of: Sequence[str]
    feedback: Feedback | None
    comment: str | None
    metadata: Mapping[str, Any]
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A user's message with the session it belongs to, stored together with its event.

    Attributes:
        agent_id: whom it is for.
        message: what was said.
        session_id: an existing session of that agent and owner; None: see `chat_id`.
        new_session_id: id of the session to make when there is none.
        chat_id: the channel's name for the conversation: found by it, or made. None together with
            no `session_id`: always a new one.
        channel: the door it came in by.
        user: who talks; kept with a new session.
        title: of a new session.
    """

    agent_id: str
    message: NewMessage
    session_id: str | None
    new_session_id: str
    chat_id: str | None = None
    channel: str = "api"
    user: Mapping[str, Any] = field(default_factory=dict[str, Any])
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """When old messages are put into summaries.

    Attributes:
        from_messages: nothing is done before so many stand without a summary.
        keep: the newest so many always stay whole.
        block: how many older ones one summary stands for.
        summaries: how many of the newest summaries are in the window; older ones are archived.
    """

    from_messages: int = 30
    keep: int = 20
    block: int = 10
    summaries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a model gets to see of a session, oldest first.

    Attributes:
        summaries: of what was said before `messages`.
        messages: whole ones, the turn's own question last.
        facts: what is to be remembered of this session.
        left_out: messages that stand without a summary and did not fit into the budget.
    """

    summaries: Sequence[Message]
    messages: Sequence[Message]
    facts: Sequence[str] = ()
    left_out: int = 0
