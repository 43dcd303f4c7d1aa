"""The threads sync user code runs in, counted per execution so that abandoned ones are known."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from holdfast.ports import running_execution

P = ParamSpec("P")
T = TypeVar("T")


class ExecutionThreads(ThreadPoolExecutor):
    """A thread pool that knows which executions still have code running in it.

    Made the loop's default executor: LangGraph runs sync nodes there. A thread cannot be stopped
    from outside, so code that outlives its cancelled execution is *abandoned*.
    """

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers=max_workers, thread_name_prefix="node")
        self._active: Counter[str] = Counter()
        self._guard = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread, on the account of the execution that asks."""
        execution = running_execution.get()
        if execution is None:
            return super().submit(fn, *args, **kwargs)

        def counted() -> T:
            try:
                return fn(*args, **kwargs)
            finally:
                self._count(execution, -1)

        self._count(execution, 1)
        try:
            future: Future[Any] = super().submit(counted)
        except RuntimeError:  # shut down
            self._count(execution, -1)
            raise
        # A future cancelled before a thread took it never runs `counted`.
        future.add_done_callback(lambda f: self._count(execution, -1) if f.cancelled() else None)
        return future

    def active(self, execution_id: str) -> int:
        """Calls of that execution still running or queued."""
        return self._active[execution_id]

    def _count(self, execution_id: str, step: int) -> None:
        with self._guard:
            self._active[execution_id] += step
            if not self._active[execution_id]:
                del self._active[execution_id]
