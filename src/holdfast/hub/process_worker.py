"""A worker in a process of its own, joined by a socket pair."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from holdfast.domain.ids import now_us
from holdfast.domain.payload import encode
from holdfast.errors import HoldfastError
from holdfast.ports import ModelConfig, RunSpec
from holdfast.runner.crossing import answer_to_json, question_from_json
from holdfast.runner.frames import MAX_MESSAGE, Kind, Wire, write_run
from holdfast.runner.process import PlainSpawner, RunnerProcess, Spawner
from holdfast.telemetry import logger

from .worker import Employer, Worker, WorkerState

log = logger("hub")

PING_EVERY_S = 5.0
"""Between two pings, where nothing else is set."""

SILENT_FOR_S = 30.0
"""A runner whose loop has not answered for this long is killed."""

READY_WITHIN_S = 120.0
"""A runner whose apps are not loaded by then is killed."""

ID_BYTES = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """What every runner of a hub is started with."""

    apps: tuple[str, ...]
    models: Mapping[str, ModelConfig]
    environment: Mapping[str, str]  # without the hub's own settings and spare secrets
    slots: int
    log_level: str = "info"
    log_form: str = "text"
    prompts: tuple[str, ...] = ()  # folders of prompts besides those beside the apps
    log: Path | None = None  # file for what it prints; None: where the hub prints
    ping_s: float | None = None  # between two pings; None: PING_EVERY_S
    agent: Mapping[str, Any] | None = None  # `id`, `name`, `version`, `config`: runs it, no apps
    redact: tuple[Mapping[str, Any], ...] = ()  # fields of `llm.content.redaction.Redaction`


class ProcessWorker(Worker):
    """One runner process, from spawn to its end.

    Its death shows as the end of the socket, at once and however it died.

    Args:
        name: for log records.
        employer: whom it works for.
        options: see `RunnerOptions`.
        spawner: starts the process; None: it becomes a Python of its own.
        process: one that was spawned already with these options.
    """

    def __init__(
        self,
        name: str,
        employer: Employer,
        options: RunnerOptions,
        spawner: Spawner | None = None,
        process: RunnerProcess | None = None,
    ) -> None:
        super().__init__(name, options.slots)
        self._employer = employer
        self._options = options
        self._spawner = spawner or PlainSpawner()
        self._process = process
        self._wire = Wire(self._on_message, self._on_closed)
        self._gone = asyncio.Event()
        self._unanswered = 0  # pings
        self._killed_for: str | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Spawn the process and greet it; `on_ready` follows when its apps are loaded."""
        if self._process is None:
            options = self._options
            self._process = self._spawner.spawn(options.environment, log=options.log)
        self.pid, ours = self._process.pid, self._process.sock
        ours.settimeout(0)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: self._wire, sock=ours)
        except BaseException:  # not even the stop of the hub may leave it behind
            self._process.close()
            self._process = None
            raise
        hello = {
            "apps": self._options.apps,
            "models": {alias: asdict(config) for alias, config in self._options.models.items()},
            "slots": self._options.slots,
            "sys_path": [path for path in sys.path if path],
            "log_level": self._options.log_level,
            "log_form": self._options.log_form,
            "prompts": self._options.prompts,
            "agent": self._options.agent,
            "redact": self._options.redact,
        }
        self._wire.send(Kind.HELLO, orjson.dumps(hello))
        if self.state is WorkerState.RETIRING:  # there was nobody yet to be told
            self._wire.send(Kind.STOP, b"")
        self._pinging = asyncio.create_task(self._ping())

    def run(self, spec: RunSpec) -> None:
        """Send an execution over."""
        self.in_flight.add(spec.execution_id)
        self._wire.send(Kind.RUN, write_run(spec))

    def cancel(self, execution_id: str) -> None:
        """Send a cancel; it overtakes what is queued."""
        self._wire.send(Kind.CANCEL, execution_id.encode())

    def pause(self, execution_id: str) -> None:
        """Send a wish to pause; should it overtake its run, the next beat repeats it."""
        self._wire.send(Kind.PAUSE, execution_id.encode())

    def learn_breakers(self, standings: Sequence[Mapping[str, Any]]) -> None:
        """Send how breakers stand; it overtakes what is queued."""
        if self.state is not WorkerState.STARTING:  # one that starts is told when it is ready
            self._wire.send(Kind.BREAKERS, encode(standings))

    def retire(self) -> None:
        """Tell the runner to leave when its runs have ended."""
        if self.state in (WorkerState.STARTING, WorkerState.READY):
            self.state = WorkerState.RETIRING
            self._wire.send(Kind.STOP, b"")

    def terminate(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone and its end was reported."""
        self._signal_kill()
        await self.gone()

    async def gone(self) -> None:
        """Wait until the process has been reaped."""
        if self._process is not None:  # it could be started
            await self._gone.wait()

    def _on_message(self, kind: Kind, body: bytes) -> None:
        match kind:
            case Kind.CHANGE:
                execution_id = body[:ID_BYTES].decode()
                self._employer.on_change(self, execution_id, body[ID_BYTES:])
            case Kind.TOKENS:
                self._employer.on_tokens(*orjson.loads(body))
            case Kind.ENDED:
                self.in_flight.discard(body.decode())
                self._employer.on_ended(self, body.decode())
            case Kind.ASK | Kind.STORE:
                self._spawn(self._answer(orjson.loads(body)))
            case Kind.OUTCOMES:
                self._employer.on_outcome(orjson.loads(body))
            case Kind.SPENT:
                self._employer.on_spent(orjson.loads(body))
            case Kind.PONG:
                self._unanswered = 0
                self.heard_at = now_us()
            case Kind.READY:
                self._is_ready(orjson.loads(body))
            case Kind.ABANDONED:
                # Its threads still run user code nobody waits for: replace it.
                log.warning("runner.abandoned", worker=self.name, execution_id=body.decode())
                self.retire()
            case _:
                log.error("hub.unexpected_frame", worker=self.name, kind=kind.name)

    def _is_ready(self, told: Mapping[str, Any]) -> None:
        self.pid = told["pid"]  # nobody may have known it before
        self.heard_at = now_us()
        if told.get("refused"):
            self._killed_for = told["refused"]
            self._signal_kill()
        elif self.state is WorkerState.STARTING:
            self._unanswered = 0  # it may have loaded its apps for long
            self.state = WorkerState.READY
            self._employer.on_ready(self)

    def _on_closed(self, error: Exception | None) -> None:
        if self._pinging is not None:
            self._pinging.cancel()
        self._spawn(self._bury(error))

    async def _bury(self, error: Exception | None) -> None:
        """The socket has closed: make sure the process is gone too, then report."""
        assert self._process is not None  # noqa: S101
        clean = self.state is WorkerState.RETIRING and not self.in_flight
        self.state = WorkerState.GONE
        if not clean:
            self._signal_kill()  # a runner without a hub must not go on
        self._employer.on_gone(self, "stopped" if clean else self._killed_for or _why(error))
        code = await asyncio.to_thread(self._process.wait)
        log.debug("runner.ended", worker=self.name, pid=self.pid, code=code)
        self._gone.set()

    def _signal_kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def _answer(self, question: dict[str, Any]) -> None:
        try:
            value = await self._employer.ask(
                question["execution_id"],
                question["port"],
                question_from_json(question["port"], question["args"]),
            )
            answer = {"id": question["id"], "value": answer_to_json(question["port"], value)}
        except HoldfastError as error:
            answer = {"id": question["id"], "error": f"{error.code}: {error}"}
        except Exception as error:
            log.exception("hub.port_failed", port=question["port"])
            answer = {"id": question["id"], "error": f"{type(error).__name__}: {error}"}
        body = encode(answer)
        if len(body) > MAX_MESSAGE:
            told = f"port_failed: the answer to {question['port']} has {len(body)} bytes, too many"
            body = encode({"id": question["id"], "error": told})
        self._wire.send(Kind.ANSWER, body)

    async def _ping(self) -> None:
        # Pings are counted and not seconds: a hub that stood still must not blame its runners.
        every_s = PING_EVERY_S if self._options.ping_s is None else self._options.ping_s
        sent = 0
        while True:
            self._wire.send(Kind.PING, b"")
            self._unanswered += 1
            sent += 1
            await asyncio.sleep(every_s)
            if self.state is WorkerState.STARTING:
                late = sent * every_s >= READY_WITHIN_S
                why = f"the runner was not ready within {READY_WITHIN_S:g} s"
            else:  # while it loads its apps its loop may be silent
                late = self._unanswered * every_s >= SILENT_FOR_S
                why = f"the runner's loop was silent for {SILENT_FOR_S:g} s"
            if late:
                log.error("runner.silent", worker=self.name, pid=self.pid, reason=why)
                self._killed_for = why
                self._spawn(self.kill())
                return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _why(error: Exception | None) -> str:
    # A reset: it died with something of ours unread.
    if error is None or isinstance(error, ConnectionError):
        return "the runner's process died"
    return f"the runner's socket broke: {error}"
