"""The bus over Redis or Valkey: pub/sub for doorbells, a stream for what must arrive.

Each hub reads the whole stream of commands from where it stood last, so that one which was cut
off for a while still gets them in order. Nothing here is needed for a correct result: the rows in
the database say what runs and what is to be stopped.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from holdfast.errors import HubSilent, SettingsError
from holdfast.telemetry import Metrics, logger

from .base import ASK_S, GAP, MUST_ARRIVE, QUEUED, Bus, Notice

log = logger("bus")

CALL_S = 2.0
"""How long any one call to the server may take."""

BLOCK_S = 5.0
"""How long a read of the stream waits for something to come."""

PING_S = 5.0
"""After so long without a notice the server is asked whether it still listens."""

RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Pauses while the server is away; the last one repeats, each with jitter."""

COMMANDS_KEPT = 10_000
"""About how many commands the stream holds; an older one is heard of through its row."""

MOST_WAITING = 10_000
"""Doorbells that may wait for the server; with more, the others are told to look for themselves."""

FLUSH_S = 1.0
"""How long a closing hub tries to send what waits."""

FAULTS = (RedisError, OSError, TimeoutError)

_LOOK = Notice(GAP)


class RedisBus(Bus):
    """Joins the hubs of one database over a Redis server.

    Args:
        url: `redis://…`, `rediss://…` or `unix://…`.
        hub: name of this one.
        space: begins the names of all channels and keys, the same for all that belong together.
        metrics: shows whether the server is there.

    Raises:
        SettingsError: the address is none.
    """

    joins = True

    def __init__(self, url: str, *, hub: str, space: str, metrics: Metrics) -> None:
        super().__init__(hub)
        try:
            self._redis: Any = Redis.from_url(
                url,
                protocol=2,
                socket_connect_timeout=CALL_S,
                socket_timeout=None,  # each call has a deadline of its own
                retry=Retry(NoBackoff(), 0),
                client_name=f"holdfast-{hub}",
            )
            self._redis.connection_pool.make_connection()  # connects to nothing yet
        except (TypeError, ValueError) as error:
            raise SettingsError(f"HOLDFAST_BUS_URL: {error}") from error
        self._space = space
        self._metrics = metrics
        self._rings: dict[Notice, None] = {}  # in order, each once
        self._commands: deque[Notice] = deque()
        self._bell = asyncio.Event()
        self._sending = asyncio.Lock()
        self._position: bytes | None = None  # of the last command heard
        self._answers: dict[str, asyncio.Future[bytes]] = {}
        self._away: set[str] = set()
        self._hearing, self._reading = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._replies: set[asyncio.Task[None]] = set()
        metrics.describe("holdfast_bus_up", "gauge", "1 while the bus reaches its server.")
        metrics.describe("holdfast_bus_dropped_total", "counter", "Notices given up unsent.")

    @property
    def joined(self) -> bool:
        """See `Bus.joined`."""
        return self._hearing.is_set() and self._reading.is_set() and not self._away

    async def start(self) -> None:
        """See `Bus.start`."""
        for work in (self._send_all, self._hear, self._obey):
            self._tasks.append(asyncio.create_task(self._keep(work), name=f"bus{work.__name__}"))
        try:
            async with asyncio.timeout(CALL_S):
                await self._hearing.wait()
                await self._reading.wait()
        except TimeoutError:
            log.warning("bus.not_joined", hint="other hubs are heard of through the database only")

    async def close(self) -> None:
        """See `Bus.close`."""
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._flush()  # after one that is under way
                while self._rings or self._commands:
                    await self._flush()
        except FAULTS as error:
            left = len(self._rings) + len(self._commands)
            self._metrics.add("holdfast_bus_dropped_total", left)
            log.warning("bus.closed_unsent", notices=left, reason=_why(error))
        tasks = {*self._tasks, *self._replies}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._redis.aclose()

    def outside(self) -> RedisOutside:
        """See `Bus.outside`."""
        return RedisOutside(self._redis)

    def _send(self, notice: Notice) -> None:
        if notice.topic in MUST_ARRIVE:
            self._commands.append(notice)
        else:
            # Which event it is does not matter to who claims the best.
            ring = Notice(QUEUED, target=notice.target) if notice.topic == QUEUED else notice
            self._rings[ring] = None
        if len(self._rings) > MOST_WAITING:
            self._drop(self._rings)
            self._rings = {_LOOK: None}
        if len(self._commands) > MOST_WAITING:
            self._drop(self._commands)
            self._commands.clear()
            self._rings[_LOOK] = None
        self._bell.set()

    def _drop(self, waiting: Any) -> None:
        self._metrics.add("holdfast_bus_dropped_total", len(waiting))
        log.warning("bus.notices_dropped", notices=len(waiting))

    async def _send_all(self) -> None:
        self._bell.set()  # what an earlier try left
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self._flush()
            self._is_back("send_all")

    async def _flush(self) -> None:
        """Send what waits in one round trip; what fails waits on."""
        async with self._sending:
            await self._send_waiting()

    async def _send_waiting(self) -> None:
        rings, self._rings = self._rings, {}
        commands, self._commands = self._commands, deque()
        if not rings and not commands:
            return
        pipe: Any = self._redis.pipeline(transaction=False)
        if rings:
            pipe.publish(f"{self._space}:notices", _pack(self.hub, rings))
        for command in commands:
            fields = {"n": _pack(self.hub, [command])}
            pipe.xadd(f"{self._space}:commands", fields, maxlen=COMMANDS_KEPT, approximate=True)
        try:
            async with asyncio.timeout(CALL_S):
                await pipe.execute()
        except BaseException:
            # Perhaps they were sent: a notice may come twice, and a command too.
            self._rings = {**rings, **self._rings}
            self._commands.extendleft(reversed(commands))
            raise

    async def _hear(self) -> None:
        channels = (f"{self._space}:notices", f"{self._space}:to:{self.hub}")
        async with self._redis.pubsub() as pubsub:
            async with asyncio.timeout(CALL_S):
                await pubsub.subscribe(*channels)
            joined, silent = 0, False
            while True:
                message = await pubsub.get_message(timeout=PING_S)
                if message is None:
                    if silent:
                        raise TimeoutError(f"no sign of life for {2 * PING_S:g} s")
                    silent = True
                    async with asyncio.timeout(CALL_S):
                        await pubsub.ping()
                    continue
                silent = False
                if message["type"] == "message":
                    self._heard(message["channel"], message["data"])
                elif message["type"] == "subscribe":
                    joined += 1
                    if joined == len(channels):
                        self._hearing.set()
                        self._is_back("hear")
                        self.deliver(_LOOK)  # nobody knows what was said in between

    def _heard(self, channel: bytes, data: bytes) -> None:
        if channel == f"{self._space}:notices".encode():
            self._deliver_all(data)
            return
        letter = orjson.loads(data)
        if "answer" in letter:
            waiting = self._answers.get(letter["answer"])
            if waiting is not None and not waiting.done():
                waiting.set_result(b"")
            return
        self._spawn(self._reply_to(letter))

    def _deliver_all(self, data: bytes) -> None:
        batch = orjson.loads(data)
        if batch["from"] != self.hub:
            for fields in batch["notices"]:
                self.deliver(Notice(*fields))

    async def _obey(self) -> None:
        stream = f"{self._space}:commands"
        async with asyncio.timeout(CALL_S):
            newest = await self._redis.xrevrange(stream, count=1)
        last = newest[0][0] if newest else b"0-0"
        if self._position is None or _number(last) < _number(self._position):
            # The first time; or the server has forgotten, and numbers from an earlier time.
            self._position = last if self._position is None else b"0-0"
        self._reading.set()
        self._is_back("obey")
        while True:
            async with asyncio.timeout(BLOCK_S + CALL_S):
                found = await self._redis.xread(
                    {stream: self._position}, block=int(BLOCK_S * 1000), count=100
                )
            for _, entries in found or ():
                for position, fields in entries:
                    self._position = position
                    self._deliver_all(fields[b"n"])

    async def _ask(self, hub: str, question: bytes) -> bytes:
        number = uuid4().hex
        letter = {"ask": number, "from": self.hub, "question": question.decode()}
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[number] = answered
        try:
            heard = await self._redis.publish(f"{self._space}:to:{hub}", orjson.dumps(letter))
            if not heard:
                raise HubSilent(f"no hub {hub} is on the bus")
            await answered
            answer = await self._redis.getdel(self._key(number))
        except FAULTS as error:
            if isinstance(error, TimeoutError):
                raise
            raise HubSilent(f"the bus is away: {_why(error)}") from error
        finally:
            del self._answers[number]
        if answer is None:
            raise HubSilent(f"the answer of hub {hub} is gone")
        return answer

    async def _reply_to(self, letter: Mapping[str, Any]) -> None:
        answer = await self._reply(letter["question"].encode())
        pointer = orjson.dumps({"answer": letter["ask"]})
        try:
            async with asyncio.timeout(CALL_S):
                pipe: Any = self._redis.pipeline(transaction=False)
                # The bytes wait in the server for whoever asked; the notice only points there.
                pipe.set(self._key(letter["ask"]), answer, px=int(5 * ASK_S * 1000))
                pipe.publish(f"{self._space}:to:{letter['from']}", pointer)
                await pipe.execute()
        except FAULTS as error:
            log.warning("bus.answer_not_sent", to=letter["from"], reason=_why(error))

    def _key(self, number: str) -> str:
        return f"{self._space}:answer:{number}"

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work again and again while the server comes and goes."""
        part, tries = work.__name__.strip("_"), 0
        while True:
            try:
                await work()
            except FAULTS as error:
                if part not in self._away:
                    tries = 0
                    log.warning("bus.away", part=part, reason=_why(error))
                self._away.add(part)
                self._metrics.put("holdfast_bus_up", 0)
            except Exception as error:  # a fault of ours must not end the hearing
                log.error("bus.failed", part=part, exc_info=error)
            pause = RETRY_S[min(tries, len(RETRY_S) - 1)]
            tries += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311

    def _is_back(self, part: str) -> None:
        if part in self._away:
            self._away.remove(part)
            log.info("bus.back", part=part)
        if not self._away:
            self._metrics.put("holdfast_bus_up", 1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)


class RedisOutside:
    """See `Outside`: publish and subscribe, and hashes."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    async def hear(
        self, pattern: str, call: Callable[[str, bytes], None], ready: Callable[[], None]
    ) -> None:
        """See `Outside.hear`."""
        with _away():
            async with self._redis.pubsub() as pubsub:
                async with asyncio.timeout(CALL_S):
                    await pubsub.psubscribe(pattern)
                silent = False
                while True:
                    message = await pubsub.get_message(timeout=PING_S)
                    if message is None:
                        if silent:
                            raise TimeoutError(f"no sign of life for {2 * PING_S:g} s")
                        silent = True
                        async with asyncio.timeout(CALL_S):
                            await pubsub.ping()
                        continue
                    silent = False
                    if message["type"] == "psubscribe":
                        ready()
                    elif message["type"] == "pmessage":
                        call(message["channel"].decode("utf-8", "replace"), message["data"])

    async def send(self, channel: str, body: bytes) -> None:
        """See `Outside.send`."""
        with _away():
            async with asyncio.timeout(CALL_S):
                await self._redis.publish(channel, body)

    async def show(
        self, states: Mapping[str, Mapping[str, str]], gone: Iterable[str], *, for_s: int
    ) -> None:
        """See `Outside.show`."""
        pipe: Any = self._redis.pipeline(transaction=True)  # nobody sees a key without its fields
        for key in gone:
            pipe.delete(key)
        for key, fields in states.items():
            pipe.delete(key)
            pipe.hset(key, mapping=dict(fields))
            pipe.expire(key, for_s)
        with _away():
            async with asyncio.timeout(CALL_S):
                await pipe.execute()


@contextmanager
def _away() -> Generator[None]:
    try:
        yield
    except FAULTS as error:
        raise ConnectionError(_why(error)) from error


def _pack(hub: str, notices: Any) -> bytes:
    listed = [
        [one.topic, one.event_id, one.execution_id, one.status, one.target, one.session_id]
        for one in notices
    ]
    return orjson.dumps({"from": hub, "notices": listed})


def _number(position: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in position.split(b"-"))


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
