"""What the doors answer about agents, their processes and conversations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from holdfast.agents.schemas import Outgoing, WaitShown
from holdfast.domain.agents import ProcessStatus, Wanted
from holdfast.domain.conversations import Feedback, SessionStatus, Speaker
from holdfast.domain.status import EventStatus

from .schemas import Answer, EventLinks, Time


class Process(Answer):
    """The process of an agent."""

    status: ProcessStatus
    wanted: Wanted = Field(description="`off`: it stays down, and its messages wait.")
    pid: int | None
    hub: str | None = Field(description="That holds it; null: nobody does.")
    host: str | None
    version: int | None = Field(description="Of the agent, that it runs.")
    started_at: Time | None
    ready_at: Time | None
    heartbeat_at: Time | None = Field(description="When its loop last answered.")
    restarts: int = Field(description="Starts in a row that came to nothing.")
    last_error: dict[str, Any] | None


class Compaction(Answer):
    """Whether old messages of an agent's sessions are put into summaries."""

    enabled: bool
    model: str | None = Field(description="Alias of the model that writes them.")
    reason: str = Field(description="Why it is never done; empty where it is.")


class AgentStatus(Process):
    """The process of an agent, and what is done for its sessions."""

    compaction: Compaction


class Agent(Answer):
    """An agent as its newest version says."""

    id: str
    name: str
    description: str
    version: int
    kind: Literal["simple", "graph"]
    config: dict[str, Any] = Field(description="As it was given; secrets in it are references.")
    created_at: Time
    updated_at: Time
    process: Process


class AppliedAgent(Agent):
    """An agent, and what became of it."""

    change: Literal["created", "changed", "same"]


class AgentPage(Answer):
    """A page of agents, by name."""

    items: list[Agent]
    next: str | None = Field(description="The next page; null on the last one.")


class AgentVersion(Answer):
    """One version of an agent."""

    version: int
    name: str
    description: str
    config: dict[str, Any]
    author: str | None = Field(description="Id of the key it came with, a file, or the local user.")
    created_at: Time
    undoes: int | None = Field(description="The version whose content it brought back.")


class AgentVersionList(Answer):
    """All versions, the newest first."""

    items: list[AgentVersion]


class AgentPart(Answer):
    """One part that differs."""

    part: Literal["name", "description", "config"]
    lines: list[str] = Field(description="A unified diff.")


class AgentDiff(Answer):
    """What differs between two versions."""

    a: int
    b: int
    same: bool
    parts: list[AgentPart]


class AgentLog(Answer):
    """A part of what an agent's process wrote."""

    lines: list[str]
    offset: int = Field(description="Behind the last line; the log can be followed from there.")
    hub: str | None = Field(description="On whose machine it is; null: there is none.")


class AgentName(Answer):
    """An agent as people know it."""

    id: str
    name: str


class Said(Answer):
    """What became of a message."""

    id: str = Field(description="Of the event that is its turn.")
    status: EventStatus
    created: bool = Field(description="False when the idempotency key was known.")
    session_id: str
    message_id: str
    agent: AgentName
    agent_status: str = Field(
        description="Status of its process, or `off`. With `off` and `error` the message is kept, "
        "and answered when somebody starts the agent."
    )
    waits: list[WaitShown] = Field(description="What the turn asks a person; empty: nothing.")
    answer: Outgoing | None
    links: EventLinks


class Session(Answer):
    """A conversation."""

    id: str
    agent: AgentName
    title: str
    channel: str
    chat_id: str | None
    user: dict[str, Any]
    metadata: dict[str, Any]
    status: SessionStatus
    turns: int
    messages: int = Field(description="Summaries are not counted.")
    created_at: Time
    updated_at: Time


class SessionPage(Answer):
    """A page of sessions, those with the newest activity first."""

    items: list[Session]
    next: str | None = Field(description="The next page; null on the last one.")


class Message(Answer):
    """One entry of a conversation."""

    id: str
    session_id: str
    turn: int
    part: int = Field(description="Its place in the turn; 0 is the question.")
    role: Speaker
    content: str
    tokens: int = Field(description="About how many.")
    event_id: str | None
    execution_id: str | None = Field(description="Behind an answer.")
    feedback: Feedback | None
    comment: str | None
    summarised: bool = Field(description="A summary stands for it before the model.")
    summary_of: list[str]
    metadata: dict[str, Any]
    created_at: Time


class MessagePage(Answer):
    """A page of what was said, the newest first."""

    items: list[Message]
    next: str | None = Field(description="The next page; null on the last one.")
