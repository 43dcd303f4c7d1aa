"""What goes in and out of a conversation, in one spelling for all doors.

HTTP, SSE, WebSocket and the Redis channels read and write these models and no others: a field that
is not theirs is refused, not dropped.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, field_validator

from holdfast.domain.conversations import MAX_TEXT_CHARS

MAX_IMAGES = 8
"""Pictures of one message."""

MAX_URL_CHARS = 2_000

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""Of a chat, a user or a channel, as somebody else calls it."""

Url = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS, pattern=r"^https?://\S+$")]

Key = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")]
"""Of visible ASCII characters."""

MessageText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARS)]


class Schema(BaseModel):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Incoming(Schema):
    """A message to an agent.

    Attributes:
        text: what is said.
        session_id: the conversation it belongs to. With neither this nor `chat_id` a new one
            begins.
        chat_id: what the channel calls the conversation: it is found by that, or made.
        platform_user_id: who speaks, as the channel calls them.
        user_data: what else the channel knows of them; anything JSON.
        channel: the door it came in by; the door's own name when it says none.
        image_urls: pictures for models that see.
    """

    text: MessageText
    session_id: Name | None = None
    chat_id: Name | None = None
    platform_user_id: Name | None = None
    user_data: dict[str, Any] = Field(default_factory=dict[str, Any])
    channel: Name | None = None
    image_urls: list[Url] = Field(default_factory=list[str], max_length=MAX_IMAGES)

    @field_validator("text")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("the text is empty")
        return text


class TurnData(Schema):
    """The data of a turn's event: what the graph gets to see of the message.

    Attributes:
        message_id: of the stored message.
        channel: the door it came in by.
    """

    text: MessageText
    message_id: str
    channel: str
    chat_id: str | None = None
    platform_user_id: str | None = None
    user_data: dict[str, Any] = Field(default_factory=dict[str, Any])
    image_urls: list[str] = Field(default_factory=list[str])


class Problem(Schema):
    """What went wrong, as it is told to whoever talks."""

    code: str
    message: str


class Outgoing(Schema):
    """An answer on its way to whoever asked.

    Attributes:
        chat_id: as the question had it.
        message_id: of the answer as it is stored; None where none is.
        execution_id: behind it; None when nothing ran.
        response: the text to show; with `error` a polite one.
        error: why there is no better answer.
    """

    chat_id: str | None = None
    session_id: str
    message_id: str | None = None
    execution_id: str | None = None
    response: str
    channel: str
    error: Problem | None = None


# What a WebSocket takes.


class SayFrame(Incoming):
    """A message.

    Attributes:
        ref: the sender's own mark of it, repeated in `accepted` and in an `error` about it.
        idempotency_key: the same key and message give the same turn again, so that it can be sent
            once more when nobody knows whether it arrived.
    """

    type: Literal["message"]
    ref: Name | None = None
    idempotency_key: Key | None = None


class ResumeFrame(Schema):
    """After a reconnect: what was missed comes again.

    Attributes:
        after: the newest message that has been seen; None: only what comes from now on.
    """

    type: Literal["resume"]
    session_id: Name
    after: Name | None = None


class PingFrame(Schema):
    """Asks for a `pong`."""

    type: Literal["ping"]


FrameIn = Annotated[SayFrame | ResumeFrame | PingFrame, Field(discriminator="type")]
FRAME_IN: TypeAdapter[SayFrame | ResumeFrame | PingFrame] = TypeAdapter(FrameIn)
"""Reads a frame that a client sent."""


# What a WebSocket sends; the names of SSE events are the same.


class AgentName(Schema):
    """An agent as people know it."""

    id: str
    name: str


class ConnectedFrame(Schema):
    """The first one."""

    type: Literal["connected"] = "connected"
    agent: AgentName
    session_id: str | None
    agent_status: str


class AcceptedFrame(Schema):
    """The message is stored and will be answered."""

    type: Literal["accepted"] = "accepted"
    ref: str | None = None
    event_id: str
    session_id: str
    message_id: str
    created: bool
    agent_status: str


class OfTurn(Schema):
    """Which turn a frame tells of."""

    session_id: str
    event_id: str
    execution_id: str | None = None


class TypingFrame(OfTurn):
    """The agent is at it."""

    type: Literal["typing"] = "typing"


class TokenFrame(OfTurn):
    """A piece of the answer.

    Attributes:
        step: that says it; text of another step is another text.
        so_far: characters of that step's text before this piece; a gap shows that one was dropped.
    """

    type: Literal["token"] = "token"
    step: int
    text: str
    so_far: int


class ToolFrame(OfTurn):
    """A tool is called, or has ended."""

    type: Literal["tool"] = "tool"
    step: int
    name: str
    status: str


class WaitShown(Schema):
    """What a turn waits for."""

    id: str
    name: str
    question: Any = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class WaitingFrame(OfTurn):
    """The turn waits for a person."""

    type: Literal["waiting"] = "waiting"
    waits: list[WaitShown]


class MessageFrame(Outgoing):
    """The answer."""

    type: Literal["message"] = "message"
    event_id: str


class ErrorFrame(Schema):
    """What was refused or failed; the connection lives on."""

    type: Literal["error"] = "error"
    code: str
    message: str
    session_id: str | None = None
    event_id: str | None = None
    ref: str | None = None
    fields: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])


class StatusFrame(Schema):
    """The agent's process has moved; with `error` or `off` nothing is answered for now.

    Attributes:
        session_id: of the stream that is told; None: of all of a WebSocket's.
    """

    type: Literal["status"] = "status"
    session_id: str | None = None
    agent_status: str


class PongFrame(Schema):
    """Answers a `ping`."""

    type: Literal["pong"] = "pong"


FrameOut = (
    ConnectedFrame
    | AcceptedFrame
    | TypingFrame
    | TokenFrame
    | ToolFrame
    | WaitingFrame
    | MessageFrame
    | ErrorFrame
    | StatusFrame
    | PongFrame
)
