"""Agents over the bus's server: what others say on channels, answers there, and how each does.

    agent:{id}:input                 taken in like any other message
    agent:{id}:output                its answer, or why there is none
    agent_status:{id}                fields of the agent's process
    integration_status:{id}:{type}   fields of a messenger it is joined to

One hub of all does this at a time: the one that holds the process row `bridge`. What is published
while nobody listens is heard by nobody: such channels promise no more. What was taken in is kept,
answered, and its answer published by whichever hub holds the row from then on: once, or once more
by the next one when a hub died between publishing and storing that it did.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, cast

import orjson
from pydantic import ValidationError

from holdfast.agents.schemas import Incoming, Outgoing, Problem
from holdfast.bus.outside import Outside
from holdfast.domain.agents import CHANNELS, Agent, ProcessStatus
from holdfast.domain.events import MAX_EVENT_BYTES
from holdfast.domain.ids import MICROS
from holdfast.domain.payload import encode
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.errors import HoldfastError, NotFound, StoreError, StoreRefused
from holdfast.operations.kit import Kit
from holdfast.operations.say import say
from holdfast.operations.talking import answers_of, outgoing, waits_shown
from holdfast.operations.wait import EndedEvents
from holdfast.store.commands import MoveProcess, ReturnProcesses, TakeProcesses, TurnTold
from holdfast.store.queries import EventById, SessionBy
from holdfast.store.queries.bridging import AgentsOf, UntoldTurns
from holdfast.telemetry import logger

from .agent_states import AgentStates
from .patience import patiently

log = logger("channels")


BRIDGE = "bridge"
"""Kind of the process row, and `REDIS` its target."""

REDIS = "redis"

OWNER = "holdfast"
"""Of that row, which is nobody's."""

INPUT = "agent:*:input"

LEASE_S = 15.0

BEAT_S = 4.0
"""How often a hub takes the row, or keeps it."""

SWEEP_S = 20.0
"""How late an answer is published at the most whose notice was lost."""

RETRY_S = 0.5

_NAME = re.compile(r"agent:([0-9a-f-]{36}):input")


class AgentChannels:
    """Brings messages from channels to agents and their answers back, when it is this hub's turn.

    Args:
        kit: the hub's parts.
        outside: the channels and keys.
        ended: tells that a turn came to rest.
        host: name of this machine.
    """

    def __init__(self, kit: Kit, outside: Outside, ended: EndedEvents, *, host: str) -> None:
        self._kit = kit
        self._outside = outside
        self._ended = ended
        self._host = host
        self._holding: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[str, set[str]] = {}  # what was asked already, by turn waited for
        self._last: dict[tuple[str, str | None, str], asyncio.Task[None]] = {}  # of each chat
        self._states = AgentStates(kit, outside)
        self.hearing = asyncio.Event()  # messages are taken in here
        kit.metrics.describe("holdfast_bridge_up", "gauge", "1 while this hub hears agents' input.")

    def start(self) -> None:
        """Try to be the one."""
        self._holding = asyncio.create_task(self._hold(), name="agent-channels")

    async def close(self) -> None:
        """Let another hub be the one; what was taken in stays kept."""
        self._states.close()
        tasks = [one for one in (self._holding, self._serving) if one is not None]
        await _end({*tasks, *self._tasks})
        if self._serving is not None:
            try:
                await self._states.show_all()
                await self._kit.store.write(ReturnProcesses(self._kit.boot_id, [(BRIDGE, REDIS)]))
            except (StoreError, ConnectionError) as error:
                log.warning("channels.not_returned", reason=str(error))

    async def _hold(self) -> None:
        """Take the row and keep it; without it nothing is heard here."""
        loop = asyncio.get_running_loop()
        until = 0.0
        while True:
            try:
                held = await self._take()
                until = loop.time() + LEASE_S - BEAT_S if held else 0.0
            except StoreError as error:
                log.warning("channels.store_away", reason=str(error))
            mine = loop.time() < until
            if mine and self._serving is None:
                log.info("channels.held")
                self._serving = asyncio.create_task(self._serve(), name="agent-channels-serving")
            elif not mine and self._serving is not None:
                log.warning("channels.lost")
                serving, self._serving = self._serving, None
                await _end({serving, *self._tasks})
            await asyncio.sleep(BEAT_S)

    async def _take(self) -> bool:
        hub, kit = self._kit.boot_id, self._kit
        taken = await kit.store.write(
            TakeProcesses(
                kind=BRIDGE,
                targets=[(REDIS, OWNER)],
                hub=hub,
                host=self._host,
                lease_us=int(LEASE_S * MICROS),
            )
        )
        for one in taken:
            if one.status is not ProcessStatus.RUNNING:
                await kit.store.write(
                    MoveProcess(
                        kind=BRIDGE,
                        target=REDIS,
                        hub=hub,
                        fence=one.fence,
                        status=ProcessStatus.RUNNING,
                    )
                )
        return bool(taken)

    async def _serve(self) -> None:
        try:
            await asyncio.gather(
                self._again(self._hear), self._again(self._states.show_on), self._again(self._adopt)
            )
        finally:
            self.hearing.clear()
            self._kit.metrics.put("holdfast_bridge_up", 0)

    async def _again(self, work: Any) -> None:
        """Do it while the server and the database come and go."""
        while True:
            try:
                await work()
                return
            except (ConnectionError, StoreError) as error:
                log.warning("channels.away", part=work.__name__.strip("_"), reason=str(error))
            except Exception as error:  # a fault of ours must not end the hearing
                log.error("channels.failed", part=work.__name__.strip("_"), exc_info=error)
            self.hearing.clear()
            await asyncio.sleep(RETRY_S)

    async def _hear(self) -> None:
        await self._outside.hear(INPUT, self._heard, self._ready)

    def _ready(self) -> None:
        self.hearing.set()
        self._kit.metrics.put("holdfast_bridge_up", 1)

    def _heard(self, channel: str, body: bytes) -> None:
        """Take a message in: after those of the same chat, beside all others."""
        found = _NAME.fullmatch(channel)
        if found is None:
            log.warning("channels.unknown", channel=channel)
            return
        agent_id = found[1]
        told, incoming = _read(body)
        key = None
        if incoming is not None and incoming.chat_id is not None:
            key = (agent_id, incoming.channel, incoming.chat_id)
        before = None if key is None else self._last.get(key)

        async def in_line() -> None:
            if before is not None:
                await asyncio.wait({before})
            await self._take_in(agent_id, told, incoming)
            if key is not None and self._last.get(key) is task:
                del self._last[key]

        task = self._spawn(in_line())
        if key is not None:
            self._last[key] = task

    async def _take_in(
        self, agent_id: str, told: Outgoing | None, incoming: Incoming | None
    ) -> None:
        try:
            agent = await self._agent(agent_id)
        except StoreError as error:
            log.error("channels.not_taken", agent=agent_id, reason=str(error))
            return
        if agent is None:
            log.warning("channels.no_agent", agent=agent_id)  # perhaps another system's
            return
        if incoming is None:
            if told is not None:
                log.warning("channels.refused", agent=agent_id, code=told.error and told.error.code)
                await self._send(agent_id, told)
            return
        try:
            said = await say(
                self._kit,
                owner_id=agent.current.owner_id,
                agent=agent,
                incoming=incoming,
                channel=REDIS,
                source=CHANNELS,
            )
        except HoldfastError as error:
            log.warning("channels.refused", agent=agent_id, code=error.code, reason=str(error))
            await self._send(agent_id, _refused(incoming, error.code, error.message))
            return
        self._spawn(self._await(agent.current.owner_id, said.event_id))

    async def _agent(self, agent_id: str) -> Agent | None:
        for one in await self._kit.store.read(AgentsOf([agent_id])):
            return one
        return None

    async def _adopt(self) -> None:
        """Bring the answers to what a hub before this one took in."""
        for turn in await self._kit.store.read(UntoldTurns()):
            self._spawn(self._await(turn.owner_id, turn.event_id))

    async def _await(self, owner_id: str, event_id: str) -> None:
        """Publish what comes of a turn: what it asks, and its end."""
        if event_id in self._asked:
            return  # it is waited for
        self._asked[event_id] = set()
        store = self._kit.store
        try:
            while True:
                with self._ended.expect(event_id, or_halted=True) as moved:  # then look
                    if moved.cancelled():
                        return
                    told = await patiently(
                        store, lambda: self._told(owner_id, event_id), event_id=event_id
                    )
                    if told:
                        break
                    await asyncio.wait({moved}, timeout=SWEEP_S)
            await patiently(
                store, lambda: store.write(TurnTold(event_id, owner_id)), event_id=event_id
            )
        except NotFound:
            log.info("channels.deleted", event_id=event_id)  # with its session
        except StoreRefused as error:  # it stays untold, for the next hub
            log.error("channels.turn_refused", event_id=event_id, reason=str(error))
        finally:
            del self._asked[event_id]

    async def _told(self, owner_id: str, event_id: str) -> bool:
        """Publish where a turn stands; whether that was the end of it."""
        kit = self._kit
        event = await kit.store.read(EventById(event_id, owner_id))
        if event.status not in EVENT_ENDS and event.status is not EventStatus.WAITING:
            return False
        session = await kit.store.read(SessionBy(event.session_id or "", owner_id))
        if event.status is EventStatus.WAITING:
            for one in await waits_shown(kit, event_id, owner_id):
                if one.id not in self._asked[event_id]:
                    self._asked[event_id].add(one.id)
                    told = Outgoing(
                        chat_id=session.chat_id,
                        session_id=session.id,
                        execution_id=event.execution_id,
                        response=_question(one.question),
                        channel=session.channel,
                    )
                    await self._send(event.target, told)
            return False
        answers = await answers_of(kit, event_id, owner_id)
        for message in answers:
            await self._send(event.target, outgoing(session, message))
        if not answers:
            await self._send(
                event.target,
                Outgoing(
                    chat_id=session.chat_id,
                    session_id=session.id,
                    response="",
                    channel=session.channel,
                    error=Problem(code=event.status.value, message="the turn has no answer"),
                ),
            )
        return True

    async def _send(self, agent_id: str, told: Outgoing) -> None:
        """Publish an answer, once the server takes it."""
        body = told.model_dump_json().encode()
        while True:
            try:
                await self._outside.send(f"agent:{agent_id}:output", body)
                return
            except ConnectionError as error:
                log.warning("channels.not_sent", agent=agent_id, reason=str(error))
                await asyncio.sleep(RETRY_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _read(body: bytes) -> tuple[Outgoing | None, Incoming | None]:
    """A message, or what to tell whoever sent it."""
    if len(body) > MAX_EVENT_BYTES:
        problem = Problem(
            code="body_too_large", message=f"the message is larger than {MAX_EVENT_BYTES} bytes"
        )
        return Outgoing(session_id="", response="", channel=REDIS, error=problem), None
    try:
        return None, Incoming.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        known = ", ".join(Incoming.model_fields)
        problem = Problem(
            code="invalid_input", message=f"{field}: {first['msg']}; a message has: {known}"
        )
        chat_id, channel = _named(body)
        return (
            Outgoing(chat_id=chat_id, session_id="", response="", channel=channel, error=problem),
            None,
        )


def _named(body: bytes) -> tuple[str | None, str]:
    """Chat and channel of a message that is wrong elsewhere."""
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, REDIS
    if not isinstance(decoded, dict):
        return None, REDIS
    given = cast("dict[str, Any]", decoded)
    chat_id, channel = given.get("chat_id"), given.get("channel")
    return (
        chat_id if isinstance(chat_id, str) else None,
        channel if isinstance(channel, str) and channel else REDIS,
    )


def _question(asked: Any) -> str:
    """What a turn asks, for people to read."""
    text: Any = cast("dict[str, Any]", asked).get("question") if isinstance(asked, dict) else asked
    return text if isinstance(text, str) else encode(asked).decode()


def _refused(incoming: Incoming, code: str, message: str) -> Outgoing:
    return Outgoing(
        chat_id=incoming.chat_id,
        session_id=incoming.session_id or "",
        response="",
        channel=incoming.channel or REDIS,
        error=Problem(code=code, message=message),
    )
