"""The runner: a child of the hub that runs graphs; no database, no bus, no spare secret."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import orjson

from holdfast.domain.payload import encode, message_of
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.errors import HoldfastError
from holdfast.llm.content.redaction import read_redactions
from holdfast.llm.factory import Models
from holdfast.pipelines.prompt_files import PromptFiles
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig, Ports, RunSpec
from holdfast.telemetry import configure_logging, logger

from .breakers import AskedBreakers
from .budgets import AskedBudgets
from .client_ports import HubPorts
from .frames import Kind, Wire, read_run
from .limits import AskedLimits

log = logger("runner")

TOKENS_LIMIT = 1024 * 1024
"""With this many bytes unread, streamed text is dropped."""

CHANGES_LIMIT = 64 * 1024 * 1024
"""With this many bytes unread, runs wait for the record."""

EARLY_CANCELS = 256
"""Cancels kept for runs that have not come yet; most are of runs that have just ended."""

TOKENS_EVERY_S = 0.05
"""Pieces of one step's text that come within this time travel as one."""


class Runner:
    """Answers the hub's frames until the socket closes."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._wire = Wire(self._on_message, self._on_closed)
        self._hub = HubPorts(self._ask)
        self._breakers = AskedBreakers(self._hub.ask, self._tell_outcome)
        self._budgets = AskedBudgets(self._hub.ask_patiently, self._tell_spent)
        self._engine: Engine | None = None
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled_early: deque[str] = deque(maxlen=EARLY_CANCELS)
        # Streamed text by execution and step, until it is sent; touched by any thread.
        self._texts: dict[str, dict[int, list[str]]] = {}
        self._texts_lock = threading.Lock()

    async def serve(self, sock: socket.socket) -> None:
        """Talk over `sock` until the hub is gone or has no more work for us."""
        await self._loop.create_unix_connection(lambda: self._wire, sock=sock)
        await self.gone.wait()
        # Not by returning: the loop would wait for threads that user code left blocked.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def change(self, execution_id: str, raw: bytes) -> None:
        """Send a change; from any thread. Waits only for a hub that is far behind."""
        self._flush_tokens(execution_id)
        self._wire.send(Kind.CHANGE, execution_id.encode() + raw)
        if self._wire.queued > CHANGES_LIMIT:
            self._wire.relieve(CHANGES_LIMIT)

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """Send streamed text, merged, unless the hub is behind; from any thread."""
        with self._texts_lock:
            first = not self._texts
            self._texts.setdefault(execution_id, {}).setdefault(step, []).append(text)
        if first and threading.get_ident() == self._loop_thread:
            self._loop.call_later(TOKENS_EVERY_S, self._flush_all_tokens)
        elif first:
            self._loop.call_soon_threadsafe(
                self._loop.call_later, TOKENS_EVERY_S, self._flush_all_tokens
            )

    def _flush_all_tokens(self) -> None:
        for execution_id in list(self._texts):
            self._flush_tokens(execution_id)

    def _flush_tokens(self, execution_id: str) -> None:
        if execution_id not in self._texts:
            return
        with self._texts_lock:
            steps = self._texts.pop(execution_id, {})
        for step, pieces in steps.items():
            if self._wire.queued < TOKENS_LIMIT:
                body = encode([execution_id, step, "".join(pieces)])
                self._wire.send(Kind.TOKENS, body)

    def _ask(self, kind: Kind, body: bytes) -> None:
        self._wire.send(kind, body)

    def _tell_outcome(self, told: dict[str, Any]) -> None:
        self._wire.send(Kind.OUTCOMES, encode(told))

    def _tell_spent(self, told: dict[str, Any]) -> None:
        self._wire.send(Kind.SPENT, encode(told))

    def _on_message(self, kind: Kind, body: bytes) -> None:
        match kind:
            case Kind.RUN:
                self._start(read_run(body))
            case Kind.CANCEL:
                self._cancel(body.decode())
            case Kind.PAUSE:
                if self._engine is not None:
                    self._engine.pause(body.decode())
            case Kind.ANSWER:
                self._hub.answered(orjson.loads(body))
            case Kind.BREAKERS:
                self._breakers.learn(orjson.loads(body))
            case Kind.PING:
                self._wire.send(Kind.PONG, body)
            case Kind.HELLO:
                self._spawn(self._begin(orjson.loads(body)))
            case Kind.STOP:
                self._stopping = True
                self._leave_when_idle()
            case _:
                log.error("runner.unexpected_frame", kind=kind.name)

    def _start(self, spec: RunSpec) -> None:
        assert self._engine is not None, "RUN before READY"  # noqa: S101
        if spec.budgeted:
            self._budgets.begin(spec.execution_id)
        self._engine.start(spec)
        if spec.execution_id in self._cancelled_early:
            self._cancelled_early.remove(spec.execution_id)
            self._engine.cancel(spec.execution_id)

    def _cancel(self, execution_id: str) -> None:
        # An urgent cancel may have overtaken the run it speaks of.
        if self._engine is None or not self._engine.cancel(execution_id):
            self._cancelled_early.append(execution_id)

    def _on_closed(self, error: Exception | None) -> None:
        if error is not None:
            log.warning("runner.hub_lost", error=repr(error))
        self.gone.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, hello: dict[str, Any]) -> None:
        """Load the apps, make everything warm, then say so."""
        for path in reversed(hello["sys_path"]):
            if path not in sys.path:
                sys.path.insert(0, path)
        configure_logging(hello["log_level"], form=hello["log_form"])
        threads = ExecutionThreads(hello["slots"])
        self._loop.set_default_executor(threads)
        try:
            registry = _registry(hello)
        except Exception as error:  # an agent's tools may raise anything
            log.exception("runner.refused")
            reason = message_of(error)
            if not isinstance(error, HoldfastError):
                reason = f"{type(error).__name__}: {reason}"
            told = {"pid": os.getpid(), "refused": reason}
            self._wire.send(Kind.READY, orjson.dumps(told))
            return
        configs = {alias: ModelConfig(**config) for alias, config in hello["models"].items()}
        self._engine = Engine(
            registry=registry,
            models=Models(
                configs,
                self._breakers,
                budgets=self._budgets,
                limits=AskedLimits(self._hub.ask_to_wait, self._tell_outcome),
                cache=self._hub.cache,
                context_cache=self._hub.context_cache,
            ),
            sink=self,
            ports=Ports(
                events=self._hub,
                cache=self._hub.cache,
                checkpoints=self._hub.checkpoints,
                records=self._hub.records,
                knowledge=self._hub.knowledge,
                memory=self._hub.memory,
                breakers=self._breakers,
                prompts=self._hub.prompts,
                budgets=self._budgets,
            ),
            threads=threads,
            on_end=self._on_end,
            on_abandoned=self._on_abandoned,
            redactions=read_redactions(hello["redact"], "redact"),
        )
        # What is loaded now stays: to look through it for garbage costs a run a tenth of its time.
        gc.collect()
        gc.freeze()
        ready = {"pid": os.getpid(), "failures": [str(one) for one in registry.failures]}
        self._wire.send(Kind.READY, orjson.dumps(ready))

    def _on_end(self, execution_id: str) -> None:
        self._budgets.end(execution_id)
        self._wire.send(Kind.ENDED, execution_id.encode())
        self._leave_when_idle()

    def _on_abandoned(self, execution_id: str) -> None:
        self._wire.send(Kind.ABANDONED, execution_id.encode())

    def _leave_when_idle(self) -> None:
        if self._stopping and (self._engine is None or self._engine.running == 0):
            self._wire.close()


def _registry(hello: dict[str, Any]) -> Registry:
    """What this process runs: the apps' pipelines, or one agent and nothing else.

    Raises:
        HoldfastError: the agent cannot run; what its configuration names is imported here, and the
            process that cannot do so ends.
    """
    if hello.get("agent") is None:
        return Registry.load(hello["apps"], prompts=map(Path, hello["prompts"]))
    from holdfast.agents.build import declare  # pipelines' runners do without

    agent = declare(**hello["agent"])
    files = PromptFiles(map(Path, hello["prompts"]))
    agent.find_prompts(files)
    agent.check()
    return Registry([agent], prompts=files)


def _watch_parent(sock: socket.socket) -> None:
    """End the process when the hub's end closes, even while user code blocks the loop."""
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLHUP | select.POLLERR)
    poller.poll()
    os._exit(0)


def main() -> None:
    """Serve the hub at the socket whose descriptor is the first argument."""
    serve_hub(socket.socket(fileno=int(sys.argv[1])))


def serve_hub(sock: socket.socket) -> None:
    """Serve the hub at the other end of a socket pair; does not return."""
    name_process("holdfast-runner")
    sock.settimeout(0)
    sock.set_inheritable(False)  # what user code starts must not hold it open
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # whoever follows a log sees what is printed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the hub's to handle
    watched = sock.dup()
    threading.Thread(target=_watch_parent, args=(watched,), daemon=True).start()

    async def serve() -> None:
        await Runner().serve(sock)

    _run(serve())


def name_process(name: str) -> None:
    """Say what this process is where processes are listed; 15 characters fit."""
    if sys.platform == "linux":
        with suppress(OSError):  # it is only a name
            Path("/proc/self/comm").write_text(name)


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run the loop until the process ends, whatever user code raises inside it."""
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    serving = loop.create_task(work)
    while True:
        try:
            loop.run_until_complete(serving)
            return
        except (SystemExit, KeyboardInterrupt) as error:
            # A node called `sys.exit`: that fails its execution and must not end its neighbours.
            if serving.done():
                raise
            log.warning("runner.exit_refused", error=repr(error))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # an extra
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
