"""Say something to an agent: an event like any other, stored together with the message."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

import orjson

from holdfast.agents.schemas import Incoming, TurnData
from holdfast.bus import Notice
from holdfast.bus.base import QUEUED
from holdfast.domain.agents import AGENT, Agent
from holdfast.domain.conversations import NewMessage, NewTurn, Speaker
from holdfast.domain.events import NewEvent
from holdfast.domain.halts import WaitKind
from holdfast.domain.ids import new_id
from holdfast.domain.splitting import tokens_of
from holdfast.domain.status import EventStatus
from holdfast.errors import IdempotencyConflict, IllegalMove, NotFound
from holdfast.store.commands.replying import Reply
from holdfast.store.queries import EventById, GivenWait, MessageBy, WaitsOf
from holdfast.store.queries.talking import SessionOfChat, TurnUnderWay, UnderWay

from .kit import Kit
from .submit import check_depth, event_hash, kept_json, take_in

MESSAGE = "agent.message"
"""CloudEvents type of a turn's event."""

TAKES_MESSAGE = "takes_message"
"""In a wait's question: whatever is said next in its session is the answer."""

TITLE_CHARS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What became of a message.

    Attributes:
        event_id: the event of its turn.
        status: that event's, now.
        session_id: the conversation it belongs to.
        message_id: of the message as it is stored.
        created: False when the idempotency key was known.
        answers: it answered what that turn waited for.
    """

    event_id: str
    status: EventStatus
    session_id: str
    message_id: str
    created: bool
    answers: bool = False


async def say(
    kit: Kit,
    *,
    owner_id: str,
    agent: Agent,
    incoming: Incoming,
    channel: str,
    source: str = "/",
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    event_id: str | None = None,
) -> Said:
    """Store a message so that it will be answered; when this returns, it is committed.

    Args:
        kit: the hub's parts.
        owner_id: whose conversation it is.
        agent: whom it is said to.
        incoming: what was said.
        channel: the door it came in by, when the message does not say.
        source: CloudEvents source.
        idempotency_key: the same key and message give the same turn again.
        traceparent: W3C trace context of the request.
        event_id: a `new_id` made before, by whoever listens for the turn's end first.

    Raises:
        NotFound: no such session of that agent and owner.
        IllegalMove: the session is archived.
        IdempotencyConflict: the key came before with another message.
        InvalidInput: something in it cannot be kept.
    """
    check_depth(incoming.user_data, "user_data")
    kept_json(incoming.user_data, "user_data")
    channel = incoming.channel or channel
    message = NewMessage(
        id=new_id() if idempotency_key is None else _id_of(owner_id, idempotency_key),
        role=Speaker.USER,
        content=incoming.text,
        tokens=tokens_of(incoming.text),
    )
    replied = await _reply(kit, owner_id, agent, incoming, channel, message, idempotency_key)
    if replied is not None:
        return replied
    data = TurnData(
        text=incoming.text,
        message_id=message.id,
        channel=channel,
        chat_id=incoming.chat_id,
        platform_user_id=incoming.platform_user_id,
        user_data=incoming.user_data,
        image_urls=list(incoming.image_urls),
    )
    event = NewEvent(
        id=event_id or new_id(),
        owner_id=owner_id,
        type=MESSAGE,
        source=source,
        subject=None,
        target=agent.id,
        target_kind=AGENT,
        data=orjson.dumps(data.model_dump(mode="json")),
        idempotency_key=idempotency_key,
        body_hash=""
        if idempotency_key is None
        else event_hash([MESSAGE, agent.id, source, channel, incoming.model_dump(mode="json")]),
        priority=0,
        traceparent=traceparent,
        occurred_at=None,
        session_id=incoming.session_id,
    )
    user = {"id": incoming.platform_user_id, **incoming.user_data}
    turn = NewTurn(
        agent_id=agent.id,
        message=message,
        session_id=incoming.session_id,
        new_session_id=new_id(),
        chat_id=incoming.chat_id,
        channel=channel,
        user=user if incoming.platform_user_id is not None else incoming.user_data,
        title=title_of(incoming.text),
    )
    submitted = await take_in(kit, event, turn=turn)
    return Said(
        event_id=submitted.id,
        status=submitted.status,
        session_id=submitted.session_id or "",  # a turn has both
        message_id=submitted.message_id or "",
        created=submitted.created,
    )


def title_of(text: str) -> str:
    """What a session is called after its first message: the beginning of its first line."""
    line = " ".join(text.strip().partition("\n")[0].split())
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rstrip() + "…"


def _id_of(owner_id: str, key: str) -> str:
    """The id of the message that came with a key: the same one whenever it comes again."""
    return str(uuid5(NAMESPACE_URL, f"urn:holdfast:message:{owner_id}:{key}"))


async def _reply(
    kit: Kit,
    owner_id: str,
    agent: Agent,
    incoming: Incoming,
    channel: str,
    message: NewMessage,
    key: str | None,
) -> Said | None:
    """Take a message as the answer to what its session's turn waits for, if that says so."""
    session_id = incoming.session_id
    if session_id is None and incoming.chat_id is not None:
        session_id = await kit.store.read(
            SessionOfChat(owner_id, agent.id, channel, incoming.chat_id)
        )
    if session_id is None:
        return None
    known = None if key is None else await _known(kit, owner_id, message, key)
    if known is not None:
        return known
    turn = await kit.store.read(TurnUnderWay(session_id, owner_id))
    if turn is None or turn.status is not EventStatus.WAITING:
        return None
    wait = await _asked(kit, turn, owner_id)
    if wait is None:
        return None
    try:
        resumed = await kit.store.write(
            Reply(
                session_id=session_id,
                agent_id=agent.id,
                owner_id=owner_id,
                event_id=turn.event_id,
                wait_id=wait.wait.id,
                message=message,
            )
        )
    except (IllegalMove, NotFound):
        # It does not wait any more: perhaps it had this very answer, else it is said anew.
        return None if key is None else await _known(kit, owner_id, message, key)
    kit.bus.publish(Notice(QUEUED, event_id=turn.event_id, target=agent.id))
    return Said(
        event_id=turn.event_id,
        status=resumed.status,
        session_id=session_id,
        message_id=message.id,
        created=True,
        answers=True,
    )


async def _known(kit: Kit, owner_id: str, message: NewMessage, key: str) -> Said | None:
    """The answer that came with a key before; None for a message that began a turn.

    Raises:
        IdempotencyConflict: it was another one.
    """
    try:
        stored = await kit.store.read(MessageBy(message.id, owner_id))
    except NotFound:
        return None
    if stored.part == 0 or stored.event_id is None:
        return None  # its event knows the key
    if stored.content != message.content:
        raise IdempotencyConflict(
            f"the idempotency key {key!r} was used with another message",
            hint=f"message {stored.id} holds it; use a new key for a new message",
        )
    event = await kit.store.read(EventById(stored.event_id, owner_id))
    return Said(
        event_id=event.id,
        status=event.status,
        session_id=stored.session_id,
        message_id=stored.id,
        created=False,
        answers=True,
    )


async def _asked(kit: Kit, turn: UnderWay, owner_id: str) -> GivenWait | None:
    """The one question of a turn that the next message answers."""
    for one in await kit.store.read(WaitsOf(turn.event_id, owner_id)):
        question = one.wait.question
        takes = isinstance(question, dict) and question.get(TAKES_MESSAGE) is True
        if one.wait.kind is WaitKind.ANSWER and one.answer is None and takes:
            return one
    return None
