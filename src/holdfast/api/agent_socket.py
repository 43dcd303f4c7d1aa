"""A WebSocket to an agent: messages of any number of conversations, and what is said in them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from contextlib import aclosing
from typing import Any, cast

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from holdfast.agents.schemas import (
    FRAME_IN,
    AcceptedFrame,
    AgentName,
    ConnectedFrame,
    ErrorFrame,
    FrameOut,
    Incoming,
    PingFrame,
    PongFrame,
    ResumeFrame,
    SayFrame,
    StatusFrame,
)
from holdfast.domain.agents import Agent
from holdfast.domain.conversations import Session
from holdfast.domain.events import MAX_EVENT_BYTES
from holdfast.domain.ids import is_id
from holdfast.domain.keys import NEEDS, Principal
from holdfast.errors import (
    BodyTooLarge,
    HoldfastError,
    HubFault,
    IllegalMove,
    MalformedBody,
    StoreError,
)
from holdfast.operations import agents as configured
from holdfast.operations import sessions, talking
from holdfast.operations.say import say
from holdfast.operations.talking import Conversation, Place
from holdfast.operations.talks import AgentWatch
from holdfast.telemetry import logger

from .doorkeeper import SocketDoor, principal, require
from .parts import ApiParts, parts_of
from .problems import POLICY_VIOLATION, outward, refusal
from .requests import decode

log = logger("api")

GOING_AWAY = 1001
"""Close code of a hub that stops (RFC 6455, 7.4.1)."""

MOST_SESSIONS = 10_000
"""Conversations followed over one socket."""

AT_ONCE = 64
"""Messages of one socket taken in at the same time; further frames are not read meanwhile."""

AGAIN_S = 1.0
"""Before the agent's status is asked for once more while the database is away."""

_TYPES = frozenset({"message", "resume", "ping"})


async def talk(socket: WebSocket) -> None:
    """Talk to the agent that the path names, until the client leaves or the hub stops."""
    parts, caller = parts_of(socket), principal(socket)
    agent = await configured.find(parts.kit, caller.owner_id, socket.path_params["ref"])
    await socket.accept()
    await _Line(socket, parts, caller, agent).run()


routes = [SocketDoor("/ws/agents/{ref}", talk, verb="talk")]


class _Line:
    """One open socket."""

    def __init__(self, socket: WebSocket, parts: ApiParts, caller: Principal, agent: Agent) -> None:
        self._socket = socket
        self._parts = parts
        self._kit = parts.kit
        self._caller = caller
        self._agent = agent
        self._speaks = talking.speaking(agent)
        self._status = "stopped"
        self._sending = asyncio.Lock()
        self._gone = False
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[Hashable, asyncio.Task[None]] = {}  # message of each conversation
        self._followers: dict[str, asyncio.Task[None]] = {}  # by session

    async def run(self) -> None:
        """Until the client leaves, the hub stops or the key is taken back."""
        stopping, leaving = self._parts.stopping, self._parts.keyring.leaving(self._caller)
        ends = [asyncio.create_task(end.wait()) for end in (stopping, leaving)]
        try:
            with self._parts.talks.watch_agent(self._agent.id) as watch:
                self._status = await self._ask_status()
                name = AgentName(id=self._agent.id, name=self._agent.current.name)
                await self._send(
                    ConnectedFrame(agent=name, session_id=None, agent_status=self._status)
                )
                reading = self._spawn(self._read())
                self._spawn(self._tell_status(watch))
                await asyncio.wait({reading, *ends}, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()
                else:
                    code = GOING_AWAY if stopping.is_set() else POLICY_VIOLATION
                    await self._close(code)
        finally:
            tasks = {*self._tasks, *ends}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._take(message.get("text"))

    async def _take(self, text: str | None) -> None:
        """See to a frame; whatever is wrong with it, the socket lives."""
        ref: str | None = None
        try:
            if text is None:
                raise _malformed("a frame is text, not bytes", "JSON text", "bytes")
            size = len(text) if len(text) > MAX_EVENT_BYTES else len(text.encode())
            if size > MAX_EVENT_BYTES:
                raise BodyTooLarge(
                    f"the frame is larger than {MAX_EVENT_BYTES} bytes",
                    hint="store large inputs elsewhere and send a reference",
                    fields=[
                        {
                            "field": "frame",
                            "expected": f"at most {MAX_EVENT_BYTES} bytes",
                            "got": "more",
                        }
                    ],
                )
            decoded = decode(text.encode())
            if not isinstance(decoded, dict):
                raise _malformed("the frame is no JSON object", "a JSON object", "something else")
            mark = cast("dict[str, Any]", decoded).get("ref")
            ref = mark[:200] if isinstance(mark, str) else None
            frame = _frame(text)
        except HoldfastError as error:
            await self._send(_error(error, ref=ref))
            return
        match frame:
            case PingFrame():
                await self._send(PongFrame())
            case ResumeFrame():
                await self._attempt(self._resume(frame), session_id=frame.session_id)
            case SayFrame():
                await self._slots.acquire()
                self._in_line(frame)

    def _in_line(self, frame: SayFrame) -> None:
        """Take a message in; after those of the same conversation, beside all others."""
        key: Hashable = frame.session_id
        if key is None and frame.chat_id is not None:
            key = (frame.channel, frame.chat_id)
        before = None if key is None else self._last.get(key)

        async def when_it_is_its_turn() -> None:
            try:
                if before is not None:
                    await asyncio.wait({before})
                await self._attempt(self._say(frame), ref=frame.ref, session_id=frame.session_id)
            finally:
                self._slots.release()
                if key is not None and self._last.get(key) is task:
                    del self._last[key]

        task = self._spawn(when_it_is_its_turn())
        if key is not None:
            self._last[key] = task

    async def _attempt(
        self,
        work: Coroutine[Any, Any, None],
        *,
        ref: str | None = None,
        session_id: str | None = None,
    ) -> None:
        """Do it; tell what goes wrong."""
        try:
            await work
        except HoldfastError as error:
            await self._send(_error(error, ref=ref, session_id=session_id))
        except Exception as error:
            log.error("api.socket_failed", agent=self._agent.id, exc_info=error)
            fault = HubFault("the hub met a fault of its own", hint="its log has the details")
            await self._send(_error(fault, ref=ref, session_id=session_id))

    async def _say(self, frame: SayFrame) -> None:
        if len(self._followers) >= MOST_SESSIONS and frame.session_id not in self._followers:
            raise IllegalMove(
                f"this WebSocket has {MOST_SESSIONS} conversations already",
                hint="open another for more",
            )
        spoken = frame.model_dump(exclude={"type", "ref", "idempotency_key"})
        said = await say(
            self._kit,
            owner_id=self._caller.owner_id,
            agent=self._agent,
            incoming=Incoming(**spoken),
            channel="websocket",
            source=f"/ws/agents/{self._agent.id}",
            idempotency_key=frame.idempotency_key,
        )
        await self._send(
            AcceptedFrame(
                ref=frame.ref,
                event_id=said.event_id,
                session_id=said.session_id,
                message_id=said.message_id,
                created=said.created,
                agent_status=self._status,
            )
        )
        if said.session_id not in self._followers:
            session = await self._session(said.session_id)
            asked = await talking.place_of(self._kit, session, said.message_id)
            # What was asked before and is not answered yet is heard, too.
            after = await talking.newest(self._kit, session, before=asked.turn)
            self._follow(session, after)

    async def _resume(self, frame: ResumeFrame) -> None:
        require(self._caller, NEEDS["look"].value)
        session = await self._session(frame.session_id)
        if frame.after is None:
            after = await talking.newest(self._kit, session)
        else:
            after = await talking.place_of(self._kit, session, frame.after)
        if len(self._followers) >= MOST_SESSIONS and session.id not in self._followers:
            raise IllegalMove(
                f"this WebSocket has {MOST_SESSIONS} conversations already",
                hint="open another for more",
            )
        self._follow(session, after)

    async def _session(self, session_id: str) -> Session:
        owner = self._caller.owner_id
        return await sessions.find(self._kit, owner, session_id, agent=self._agent)

    def _follow(self, session: Session, after: Place) -> None:
        """Send what is said in a conversation from that place on."""
        old = self._followers.pop(session.id, None)
        if old is not None:
            old.cancel()
        work = self._attempt(self._send_all(session, after), session_id=session.id)
        self._followers[session.id] = self._spawn(work)

    async def _send_all(self, session: Session, after: Place) -> None:
        talk = Conversation(self._kit, self._parts.talks, session, after=after, speaks=self._speaks)
        async with aclosing(talk.frames()) as frames:
            async for frame in frames:
                if frame is not None:
                    await self._send(frame)

    async def _tell_status(self, watch: AgentWatch) -> None:
        while True:
            await watch.bell.wait()
            watch.bell.clear()
            watch.moved = False
            try:
                status = await self._ask_status()
            except StoreError as error:
                log.warning("api.status_unknown", agent=self._agent.id, reason=str(error))
                await asyncio.sleep(AGAIN_S)
                watch.bell.set()
                continue
            if status != self._status:
                self._status = status
                await self._send(StatusFrame(agent_status=status))

    async def _ask_status(self) -> str:
        process = await configured.process_of(self._kit, self._agent.current)
        return configured.agent_status(process)

    async def _send(self, frame: FrameOut) -> None:
        """Send a frame, in the client's pace: who reads slowly gets longer pieces."""
        text = frame.model_dump_json(by_alias=True)
        async with self._sending:
            if self._gone:
                return
            try:
                await self._socket.send_text(text)
            except WebSocketDisconnect:
                self._gone = True  # the reader hears of it, too

    async def _close(self, code: int) -> None:
        async with self._sending:
            if not self._gone:
                self._gone = True
                await self._socket.close(code)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _frame(text: str) -> SayFrame | ResumeFrame | PingFrame:
    try:
        frame = FRAME_IN.validate_json(text)
    except ValidationError as error:
        found = [_placed(dict(item)) for item in error.errors(include_url=False)]
        raise refusal(found) from error
    if isinstance(frame, ResumeFrame):
        for field in ("session_id", "after"):
            given = getattr(frame, field)
            if given is not None and not is_id(given):
                raise refusal([{"type": "id", "msg": "an id", "loc": (field,), "input": given}])
    return frame


def _placed(item: dict[str, Any]) -> dict[str, Any]:
    """A fault with its field as the client wrote it, without the kind of the frame."""
    loc = item["loc"]
    if item["type"].startswith("union_tag"):
        return {**item, "loc": ("type",), "msg": f"one of: {', '.join(sorted(_TYPES))}"}
    return {**item, "loc": loc[1:] if loc and loc[0] in _TYPES else loc}


def _malformed(message: str, expected: str, got: str) -> MalformedBody:
    return MalformedBody(message, fields=[{"field": "frame", "expected": expected, "got": got}])


def _error(
    error: HoldfastError, *, ref: str | None = None, session_id: str | None = None
) -> ErrorFrame:
    told = outward(error)
    return ErrorFrame(
        code=told.code,
        message=str(told),
        ref=ref,
        session_id=session_id,
        fields=told.fields,
    )
