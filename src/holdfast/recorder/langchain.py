"""LangChain runs outside Holdfast: each outermost run an execution, through the same handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from holdfast.recording.collector import OpenStep
from holdfast.recording.handler import RecordingHandler

from .runs import HERE, RecordedExecution

if TYPE_CHECKING:
    from .recorder import Recorder


class _Inside(RecordingHandler):
    """Records into an execution that began before; its outermost runs are steps of `parent`."""

    def __init__(self, run: RecordedExecution, parent: OpenStep | None) -> None:
        assert run.collector is not None  # noqa: S101 - the caller has looked
        super().__init__(run.collector)
        self.parent = parent

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        super().on_chain_start(serialized, inputs, **kwargs)
        if kwargs.get("parent_run_id") is None:
            self._steps[kwargs["run_id"]] = self.parent
            self._hidden.add(kwargs["run_id"])


@dataclass(slots=True)
class _Root:
    """An outermost run."""

    run_id: UUID
    run: RecordedExecution
    handler: RecordingHandler
    own: bool  # its execution begins and ends with it


class GraphHandler(BaseCallbackHandler):
    """Tells each outermost run to a handler of its own."""

    run_inline = True
    raise_error = False

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._roots: dict[UUID, _Root] = {}

    def _start(self, method: str, what: Any, given: Any, kwargs: dict[str, Any]) -> None:
        run_id, parent_id = kwargs["run_id"], kwargs.get("parent_run_id")
        root = self._roots.get(parent_id) if parent_id is not None else None
        if root is None:
            root = self._begin(run_id, str(kwargs.get("name") or "graph"), given)
        if root is not None:
            self._roots[run_id] = root
            getattr(root.handler, method)(what, given, **kwargs)

    def _end(self, method: str, told: Any, kwargs: dict[str, Any]) -> None:
        root = self._roots.pop(kwargs["run_id"], None)
        if root is None:
            return
        getattr(root.handler, method)(told, **kwargs)
        if root.own and root.run_id == kwargs["run_id"]:
            failed = isinstance(told, BaseException)
            root.run.finish(
                output=None if failed else told,
                error=told if failed else None,
            )

    def _begin(self, run_id: UUID, name: str, given: Any) -> _Root | None:
        here = HERE.get()
        if here is not None and here[0].collector is not None:
            run, step = here
            return _Root(run_id, run, _Inside(run, step.opened if step else None), own=False)
        run = self._recorder.execution(name, input=given)
        if run.collector is None:
            return None
        return _Root(run_id, run, RecordingHandler(run.collector), own=True)

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:  # noqa: D102
        self._start("on_chain_start", serialized, inputs, kwargs)

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:  # noqa: D102
        self._end("on_chain_end", outputs, kwargs)

    def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:  # noqa: D102
        self._end("on_chain_error", error, kwargs)

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:  # noqa: D102
        self._start("on_chat_model_start", serialized, messages, kwargs)

    def on_llm_start(self, serialized: Any, prompts: Any, **kwargs: Any) -> None:  # noqa: D102
        self._start("on_llm_start", serialized, prompts, kwargs)

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:  # noqa: D102
        root = self._roots.get(kwargs["run_id"])
        if root is not None:
            root.handler.on_llm_new_token(token, **kwargs)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:  # noqa: D102
        self._end("on_llm_end", response, kwargs)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:  # noqa: D102
        self._end("on_llm_error", error, kwargs)

    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:  # noqa: D102
        self._start("on_tool_start", serialized, input_str, kwargs)

    def on_tool_end(self, output: Any, **kwargs: Any) -> None:  # noqa: D102
        self._end("on_tool_end", output, kwargs)

    def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:  # noqa: D102
        self._end("on_tool_error", error, kwargs)

    def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:  # noqa: D102
        self._start("on_retriever_start", serialized, query, kwargs)

    def on_retriever_end(self, documents: Any, **kwargs: Any) -> None:  # noqa: D102
        self._end("on_retriever_end", documents, kwargs)

    def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:  # noqa: D102
        self._end("on_retriever_error", error, kwargs)
