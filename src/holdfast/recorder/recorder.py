"""`Recorder`: records executions of code that Holdfast does not run."""

from __future__ import annotations

import atexit
import functools
import hashlib
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.payload import Texts, encode, printable
from holdfast.domain.recordings import Begun
from holdfast.domain.status import ExecutionStatus
from holdfast.llm.content.redaction import Redaction
from holdfast.recording.collector import Collector
from holdfast.settings import load
from holdfast.telemetry import ensure_logging, logger

from .delivery import Courier, Delivery, ToHub, ToStore
from .runs import HERE, RecordedExecution, RecordedStep
from .spool import Spool

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler

P = ParamSpec("P")
R = TypeVar("R")

log = logger("recorder")

FLUSH_S = 2.0
"""Longest time the end of a process waits for what a hub has not acknowledged."""


class Recorder:
    """Records what code that runs elsewhere does: same journal, same record as a pipeline's.

    Each change is one `write` to a local file, which outlives a killed process; all else happens
    on a thread of the recorder's own. Nothing it does raises into the caller's code: a fault is
    counted in `faults`, and the first of its kind is logged.

    ```python
    recorder = Recorder("nightly")
    with recorder.execution("report", input={"day": "monday"}) as run:
        with run.step("summarise") as step:
            with step.provider_call(provider="openai", model="gpt-4o-mini", user="…") as call:
                call.answer("…", tokens_input=900, tokens_output=40)
            step.output = "…"
        run.output = "…"
    ```

    For any thread; a forked child records into a folder of its own.

    Attributes:
        faults: how often recording itself went wrong.
    """

    def __init__(
        self,
        name: str = "my-script",
        *,
        version: str = "1",
        owner: str | None = None,
        url: str | None = None,
        key: str | None = None,
        home: str | Path | None = None,
        enabled: bool = True,
        flush_s: float = FLUSH_S,
    ) -> None:
        """Prepare; nothing is opened before the first execution.

        Args:
            name: of the program; events get the source `recorder:NAME`.
            version: of the program.
            owner: whose the executions are in the local store; a hub over HTTP goes by the key.
            url: of a hub to send to; None: the store of `home`.
            key: API key for that hub.
            home: default: `HOLDFAST_HOME`, else `.holdfast`.
            enabled: False records nothing and touches nothing.
            flush_s: seconds the end of the process may wait for deliveries to `url`.
        """
        self.faults = 0
        self._name = name
        self._version = version
        self._owner = owner or LOCAL_OWNER
        self._url = url
        self._key = key
        self._home = None if home is None else Path(home)
        self._enabled = enabled
        self._flush_s = flush_s
        self._told: set[str] = set()
        self._open: tuple[Spool, Courier] | None = None
        self._redactions: tuple[Redaction, ...] = ()  # known once it is open
        self._runs: dict[str, RecordedExecution] = {}
        self._lock = threading.Lock()

    def execution(
        self,
        name: str,
        *,
        input: Any = None,  # noqa: A002 - the record's own word
        traceparent: str | None = None,
    ) -> RecordedExecution:
        """Begin an execution; use it as `with recorder.execution(name) as run`.

        Args:
            name: what runs; like a pipeline's name.
            input: what it is given; kept as the data of its event.
            traceparent: W3C trace context.
        """
        if not self._enabled:
            return _NOTHING
        try:
            return self._begin(name, input, traceparent)
        except Exception as fault:  # noqa: BLE001 - never raise into the host's code
            self._fault("begin", fault)
            return _NOTHING

    @overload
    def step(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def step(
        self, /, *, name: str | None = None, kind: str = "node"
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def step(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        kind: str = "node",
    ) -> Any:
        """Decorator: every call of the function is a step of the execution it happens in.

        Outside of one the call is an execution of its own with that step.

        Args:
            function: plain or `async`, no generator.
            name: of the step; default: the function's.
            kind: of the step.

        Raises:
            TypeError: the function is a generator.
        """
        if function is None:
            return functools.partial(self._wrap, name=name, kind=kind)
        return self._wrap(function, name, kind)

    def handler(self) -> BaseCallbackHandler:
        """A LangChain callback handler: `graph.invoke(x, {"callbacks": [recorder.handler()]})`.

        Each outermost run is an execution of its own, or part of the execution it happens in.
        """
        from .langchain import GraphHandler

        return GraphHandler(self)

    def callbacks(self) -> list[BaseCallbackHandler]:
        """`handler` as the list that a LangChain configuration has."""
        return [self.handler()]

    def initialize(
        self,
        name: str,
        *,
        input: Any = None,  # noqa: A002 - the record's own word
        traceparent: str | None = None,
    ) -> str:
        """Begin an execution and return its id; an empty text when nothing is recorded."""
        run = self.execution(name, input=input, traceparent=traceparent)
        if run.id:
            self._runs[run.id] = run
        return run.id

    def on_step_start(
        self,
        execution_id: str,
        operation: str,
        *,
        input: Any = None,  # noqa: A002 - the record's own word
        kind: str = "node",
        parent: int | None = None,
    ) -> int:
        """Begin a step and return its number; 0 when nothing is recorded."""
        run = self._run(execution_id)
        if run is None:
            return 0
        above = run.steps.get(parent) if parent else None
        begin = run.step if above is None else above.step
        step = begin(operation, input=input, kind=kind)
        run.steps[step.number] = step
        return step.number

    def on_step_validation(
        self,
        execution_id: str,
        step: int,
        outcome: str,
        *,
        errors: Sequence[str] = (),
        duration_s: float = 0.0,
    ) -> None:
        """See `RecordedStep.validation`."""
        found = self._step(execution_id, step)
        if found is not None:
            found.validation(outcome, errors=errors, duration_s=duration_s)

    def on_provider_call(
        self,
        execution_id: str,
        step: int,
        *,
        provider: str | None = None,
        model: str | None = None,
        system: str | None = None,
        user: Any = None,
        messages: Sequence[Mapping[str, Any]] = (),
        parameters: Mapping[str, Any] | None = None,
        answer: Any = None,
        error: BaseException | None = None,
        duration_s: float | None = None,
        tokens_input: int | None = None,
        tokens_cached: int | None = None,
        tokens_output: int | None = None,
        tokens_reasoning: int | None = None,
    ) -> None:
        """Note a model call after it was made; see `RecordedStep.provider_call`, `Call.answer`."""
        found = self._step(execution_id, step)
        if found is None:
            return
        call = found.provider_call(
            provider=provider,
            model=model,
            system=system,
            user=user,
            messages=messages,
            parameters=parameters,
        )
        if error is None:
            call.answer(
                answer,
                tokens_input=tokens_input,
                tokens_cached=tokens_cached,
                tokens_output=tokens_output,
                tokens_reasoning=tokens_reasoning,
            )
        call.finish(error=error, duration_s=duration_s)

    def on_step_complete(
        self,
        execution_id: str,
        step: int,
        *,
        output: Any = None,
        error: BaseException | None = None,
        skipped: str | None = None,
    ) -> None:
        """End a step; `skipped` is the reason why it was not done."""
        found = self._step(execution_id, step)
        if found is not None:
            if skipped is not None:
                found.skip(skipped)
            found.finish(output=output, error=error)

    def finalize(
        self,
        execution_id: str,
        *,
        output: Any = None,
        error: BaseException | None = None,
        status: ExecutionStatus | None = None,
    ) -> None:
        """End an execution."""
        run = self._run(execution_id)
        if run is not None:
            del self._runs[execution_id]
            run.finish(output=output, error=error, status=status)

    def flush(self, timeout: float = FLUSH_S) -> bool:
        """Deliver what has ended, for at most `timeout` seconds.

        Returns:
            False when something is left, which is kept and delivered later. True also when a
            hub on this home takes it by itself, within a second or two.
        """
        return True if self._open is None else self._open[1].flush(timeout)

    def close(self) -> None:
        """Stop recording: a short flush, then let go of the folders. Happens by itself at exit."""
        with self._lock:
            opened, self._open = self._open, None
        if opened is None:
            return
        spool, courier = opened
        try:
            spool.hand_over()
            if self._url is not None:
                courier.flush(self._flush_s)
            courier.close()
            spool.close()
        except Exception as fault:  # noqa: BLE001 - never raise into the host's code
            self._fault("close", fault)

    def _begin(self, name: str, given: Any, traceparent: str | None) -> RecordedExecution:
        data = encode(given)
        begun = Begun(
            execution_id=new_id(),
            event_id=new_id(),
            owner_id=self._owner,
            name=printable(name),
            version=self._version,
            source=f"recorder:{printable(self._name)}",
            data=data.decode(),
            traceparent=traceparent,
            started_at=now_us(),
        )
        spool, courier = self._opened()
        spool.begin(begun)

        def ended(execution_id: str) -> None:
            spool.end(execution_id)
            courier.wake()

        collector = Collector(begun.execution_id, spool, redactions=self._redactions)
        collector.texts = Texts(data, redact=collector.redactor)
        return RecordedExecution(begun.execution_id, begun.event_id, collector, ended, self._fault)

    def _opened(self) -> tuple[Spool, Courier]:
        opened = self._open
        if opened is not None:
            return opened
        with self._lock:
            if self._open is None:
                ensure_logging("warning")
                root, delivery = self._place()
                spool = Spool(root)
                self._open = spool, Courier(spool.hand_over, delivery, self._not_delivered)
                mine: weakref.ref[Recorder] = weakref.ref(self)
                atexit.register(_close, mine)
                os.register_at_fork(after_in_child=functools.partial(_forked, mine))
            return self._open

    def _place(self) -> tuple[Path, Delivery]:
        """Where recordings lie until they are delivered, and who delivers them."""
        settings = load(None if self._home is None else {"home": self._home})
        self._redactions = settings.redactions()
        home = settings.home.absolute()
        home.mkdir(parents=True, exist_ok=True)
        if self._url is None:
            root = home / "journal"
            return root, ToStore(root, home, settings.store_url)
        # Apart from the journal, which a hub of this home takes in for itself; by address.
        place = hashlib.sha256(self._url.rstrip("/").encode()).hexdigest()[:16]
        root = home / "outbox" / place
        return root, ToHub(root, self._url, self._key)

    def _run(self, execution_id: str) -> RecordedExecution | None:
        run = self._runs.get(execution_id)
        if run is None and execution_id:
            self._fault("call", LookupError(f"no execution {execution_id!a} is under way"))
        return run

    def _step(self, execution_id: str, number: int) -> RecordedStep | None:
        run = self._run(execution_id)
        step = None if run is None else run.steps.get(number)
        if run is not None and step is None:
            self._fault("call", LookupError(f"execution {execution_id} has no step {number!a}"))
        return step

    def _wrap(self, function: Callable[..., Any], name: str | None, kind: str) -> Any:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function!r} is a generator; record its steps with run.step(…)")
        if not self._enabled:
            return function
        called = name or function.__name__
        signature = inspect.signature(function)

        def begin(args: Any, kwargs: Any) -> tuple[RecordedExecution | None, RecordedStep]:
            given = _arguments(signature, args, kwargs)
            here = HERE.get()
            if here is not None and here[0].id:
                return None, here[0].step(called, input=given, kind=kind)
            run = self.execution(called, input=given)
            return run, run.step(called, input=given, kind=kind)

        if inspect.iscoroutinefunction(function):
            work = cast("Callable[..., Coroutine[Any, Any, Any]]", function)

            @functools.wraps(function)
            async def recorded_async(*args: Any, **kwargs: Any) -> Any:
                run, step = begin(args, kwargs)
                with run or _NOTHING, step:
                    step.output = output = await work(*args, **kwargs)
                    if run is not None:
                        run.output = output
                    return output

            return recorded_async

        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            run, step = begin(args, kwargs)
            with run or _NOTHING, step:
                step.output = output = function(*args, **kwargs)
                if run is not None:
                    run.output = output
                return output

        return recorded

    def _not_delivered(self, error: Exception) -> None:
        # Nothing is lost: it is tried again, by this process or the next.
        self._note("recorder.not_delivered", error)

    def _fault(self, where: str, error: Exception) -> None:
        self.faults += 1
        self._note(f"recorder.fault.{where}", error)

    def _note(self, action: str, error: Exception) -> None:
        kind = f"{action} {type(error).__name__}"
        if kind not in self._told:
            self._told.add(kind)
            log.error(action, error=str(error), exc_info=error)

    def abandon(self) -> None:
        """In a forked child: what is open is the parent's. Happens by itself."""
        self._lock = threading.Lock()
        opened, self._open = self._open, None
        self._runs = {}
        if opened is not None:
            opened[0].abandon()


def _close(recorder: weakref.ref[Recorder]) -> None:
    found = recorder()
    if found is not None:
        found.close()


def _forked(recorder: weakref.ref[Recorder]) -> None:
    found = recorder()
    if found is not None:
        found.abandon()


def _arguments(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:  # the call itself will say what is wrong with it
        return {"args": args, "kwargs": kwargs}
    given.pop("self", None)
    return given


class _Nothing(RecordedExecution):
    """Stands in where nothing is recorded; any number of users share it."""

    def __enter__(self) -> RecordedExecution:
        return self

    def _close(self, error: BaseException | None) -> None:
        pass


def _ignore(*_: object) -> None:
    pass


_NOTHING = _Nothing("", "", None, _ignore, _ignore)
