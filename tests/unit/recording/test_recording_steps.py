"""What a graph's callbacks leave: steps in a tree, attempts on model steps, nothing hidden."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import ToolException, tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.llm.scripted import ScriptedAnswer, ScriptedChatModel
from holdfast.testing.ports import Recorded

from .conftest import Recording


class Data(TypedDict):
    said: Annotated[list[str], operator.add]


def graph_of(**nodes: Any) -> Any:
    """A line of nodes in order."""
    made = StateGraph(Data)
    names = list(nodes)
    for name, node in nodes.items():
        made.add_node(name, node)
    for one, other in zip([START, *names], [*names, END], strict=True):
        made.add_edge(one, other)
    return made.compile()


def talker(answer: Any = "hello there, you", **fields: Any) -> ScriptedChatModel:
    return ScriptedChatModel(script=lambda _: answer, streaming=True, cache=False, **fields)


async def says(state: Data) -> Data:
    return {"said": ["async"]}


def blocks(state: Data) -> Data:
    return {"said": ["sync"]}


async def fails(state: Data) -> Data:
    raise ValueError("no such thing")


async def test_nodes_sync_and_async_leave_one_step_each(recording: Recording) -> None:
    record = await recording.run(graph_of(one=says, two=blocks), {"said": ["start"]})
    assert [(s.kind, s.operation, s.parent) for s in record.steps] == [
        ("node", "one", None),
        ("node", "two", None),
    ]
    assert record.text(record.step("one").input) == {"said": ["start"]}
    assert record.text(record.step("one").output) == {"said": ["async"]}
    assert record.text(record.step("two").input) == {"said": ["start", "async"]}
    assert record.output == {"said": ["start", "async", "sync"]}
    assert all(step.status is StepStatus.SUCCEEDED for step in record.steps)
    assert all(step.duration_us is not None and step.duration_us >= 0 for step in record.steps)


async def test_a_failing_node_keeps_its_error_and_those_before_their_results(
    recording: Recording,
) -> None:
    record = await recording.run(graph_of(one=says, two=fails, three=says), {"said": []})
    assert [step.status for step in record.steps] == [StepStatus.SUCCEEDED, StepStatus.FAILED]
    error = record.step("two").error
    assert error is not None
    assert (error["type"], error["message"]) == ("ValueError", "no such thing")
    assert "in fails" in error["traceback"]
    assert record.step("two").error_phase == "node"


async def test_chains_inside_a_node_are_its_children(recording: Recording) -> None:
    inner = RunnableLambda(lambda text: text + "!").with_config(run_name="shout")
    outer = (
        RunnableLambda(lambda text: text * 2).with_config(run_name="twice") | inner
    ).with_config(run_name="both")

    async def node(state: Data, config: RunnableConfig) -> Data:
        return {"said": [await outer.ainvoke("a", config)]}

    record = await recording.run(graph_of(node=node), {"said": []})
    assert record.tree() == {"node": None, "both": "node", "twice": "both", "shout": "both"}
    assert record.text(record.step("shout").output) == "aa!"
    assert {step.kind for step in record.steps} == {"node", "chain"}


async def test_langgraphs_own_plumbing_is_left_out(recording: Recording) -> None:
    def choose(state: Data) -> str:
        return "two"

    made = StateGraph(Data)
    made.add_node("one", says)
    made.add_node("two", blocks)
    made.add_edge(START, "one")
    made.add_conditional_edges("one", choose, ["two", END])
    record = await recording.run(made.compile(), {"said": []})
    assert record.tree() == {"one": None, "choose": "one", "two": None}
    assert record.text(record.step("choose").output) == "two"


async def test_a_subgraph_is_a_step_and_its_nodes_lie_under_it(recording: Recording) -> None:
    record = await recording.run(graph_of(before=says, inner=graph_of(deep=says)), {"said": []})
    tree = record.tree()
    assert tree["before"] is None
    assert tree["inner"] is None or tree["inner"] == "inner"
    deep = record.step("deep")
    ancestors: list[str] = []
    parents = {step.step: step for step in record.steps}
    while deep.parent is not None:
        deep = parents[deep.parent]
        ancestors.append(deep.operation)
    assert ancestors
    assert ancestors[-1] == "inner"


async def test_a_command_to_the_parent_graph_is_no_failure(recording: Recording) -> None:
    async def up(state: Data) -> Command[str]:
        return Command(graph=Command.PARENT, goto="after", update={"said": ["up"]})

    made = StateGraph(Data)
    made.add_node("inner", graph_of(up=up))
    made.add_node("after", says)
    made.add_edge(START, "inner")
    record = await recording.run(made.compile(), {"said": []})
    assert record.finished.status == ExecutionStatus.SUCCEEDED
    assert {step.status for step in record.steps} == {StepStatus.SUCCEEDED}
    assert record.output == {"said": ["up", "async"]}


async def test_parallel_branches_keep_their_parents(recording: Recording) -> None:
    """Both are under way at once; each one's inner step must lie under its own."""
    here = {"left": asyncio.Event(), "right": asyncio.Event()}

    def branch(name: str, other: str) -> Any:
        async def inner(text: str) -> str:
            here[name].set()
            await here[other].wait()
            return text

        chain = RunnableLambda(inner).with_config(run_name=f"{name} inner")

        async def node(state: Data, config: RunnableConfig) -> Data:
            return {"said": [await chain.ainvoke(name, config)]}

        return node

    made = StateGraph(Data)
    for name, other in [("left", "right"), ("right", "left")]:
        made.add_node(name, branch(name, other))
        made.add_edge(START, name)
    record = await recording.run(made.compile(), {"said": []})
    assert record.tree() == {
        "left": None,
        "right": None,
        "left inner": "left",
        "right inner": "right",
    }
    for name in ("left", "right"):
        assert record.text(record.step(f"{name} inner").output) == name


async def test_sync_branches_in_threads_keep_their_values_apart(recording: Recording) -> None:
    def branch(number: int) -> Any:
        chain = RunnableLambda(lambda n: {"own": f"{n} " * 30}).with_config(run_name=f"in {number}")

        def node(state: Data, config: RunnableConfig) -> Data:
            for _ in range(10):
                found = chain.invoke(number, config)
            return {"said": [found["own"]]}

        return node

    made = StateGraph(Data)
    for number in range(6):
        made.add_node(f"node {number}", branch(number))
        made.add_edge(START, f"node {number}")
    record = await recording.run(made.compile(), {"said": []})
    assert len(record.steps) == 6 + 60
    assert record.finished.faults == []
    names = {step.step: step.operation for step in record.steps}
    for step in record.steps:
        if step.kind == "chain":
            number = step.operation.split()[1]
            assert names[step.parent or 0] == f"node {number}"
            assert record.text(step.output) == {"own": f"{number} " * 30}


# -- models --------------------------------------------------------------------------------------


async def run_model(
    recording: Recording, model: Any, *, given: Any = "hi", **options: Any
) -> Recorded:
    async def node(state: Data, config: RunnableConfig) -> Data:
        reply = await model.ainvoke(given, config, **options)
        return {"said": [str(getattr(reply, "text", reply))]}

    return await recording.run(graph_of(node=node), {"said": []})


async def test_a_model_inside_a_foreign_node_is_a_step_with_one_attempt(
    recording: Recording,
) -> None:
    answer = ScriptedAnswer(
        text="hello there", tokens_input=11, tokens_output=7, tokens_cached=3, tokens_reasoning=2
    )
    record = await run_model(recording, talker(answer))
    model = record.step("ScriptedChatModel")
    assert record.tree() == {"node": None, "ScriptedChatModel": "node"}
    assert (model.kind, model.status) == ("model", StepStatus.SUCCEEDED)
    (attempt,) = record.attempts
    assert (attempt.step, attempt.n, attempt.status) == (model.step, 1, StepStatus.SUCCEEDED)
    assert (attempt.provider, attempt.model) == ("scripted", "rules")
    assert (attempt.tokens_input, attempt.tokens_output) == (11, 7)
    assert (attempt.tokens_cached, attempt.tokens_reasoning) == (3, 2)
    assert attempt.usage == "reported"
    assert attempt.finish_reason == "stop"
    assert record.text(attempt.prompt_user) == "hi"
    assert record.text(attempt.messages) == [{"role": "user", "content": "hi"}]
    raw = record.text(attempt.raw_response)
    assert raw["content"] == "hello there"
    assert raw["usage_metadata"]["output_tokens"] == 7
    assert record.text(model.output)["content"] == "hello there"


class Claude(GenericFakeChatModel):
    """Speaks as Anthropic's integration does."""

    def _get_ls_params(self, stop: Any = None, **_: Any) -> Any:
        return {"ls_provider": "anthropic", "ls_model_name": "claude-3-5-haiku-latest"}


async def test_both_prices_of_cache_writes_reach_the_record(recording: Recording) -> None:
    lifetimes = {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 700}
    usage = {
        "input_tokens": 1000,
        "output_tokens": 10,
        "total_tokens": 1010,
        "input_token_details": {"cache_read": 0, "cache_creation": 0, **lifetimes},
    }
    answer = AIMessage("hello", usage_metadata=usage)  # type: ignore[arg-type]
    record = await run_model(recording, Claude(messages=iter([answer])))
    (attempt,) = record.attempts
    assert (attempt.provider, attempt.tokens_input) == ("anthropic", 1000)
    assert attempt.tokens_cache_write == 900
    fresh, short, long, out = 100 * 800_000, 200 * 1_000_000, 700 * 1_600_000, 10 * 4_000_000
    assert attempt.cost_pico == fresh + short + long + out


async def test_streaming_notes_the_first_token_and_passes_the_text_on(
    recording: Recording,
) -> None:
    answer = ScriptedAnswer(text="one two three", chunks=("one ", "two ", "three"))
    record = await run_model(recording, talker(answer))
    (attempt,) = record.attempts
    assert attempt.first_token_us is not None
    assert attempt.duration_us is not None
    assert 0 <= attempt.first_token_us <= attempt.duration_us
    pieces = recording.sink.tokens_of["x1"]
    assert pieces == [(attempt.step, "one "), (attempt.step, "two "), (attempt.step, "three")]


class Refusing(BaseChatModel):
    """A provider that answers every call with an error."""

    error: Any

    @property
    def _llm_type(self) -> str:
        return "refusing"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        raise self.error


class Overloaded(Exception):
    status_code = 529
    request_id = "req-7"


@pytest.mark.parametrize(
    ("error", "error_class", "http_status", "usage"),
    [
        (Overloaded("try later"), "temporary", 529, "unbilled"),
        (TimeoutError("took too long"), "temporary", None, "unknown"),
        (RuntimeError("odd"), "unknown", None, "unknown"),
    ],
)
async def test_a_failed_call_is_a_failed_attempt_with_its_class_and_status(
    recording: Recording, error: Exception, error_class: str, http_status: int | None, usage: str
) -> None:
    record = await run_model(recording, Refusing(error=error))
    (attempt,) = record.attempts
    assert attempt.status is StepStatus.FAILED
    assert (attempt.error_class, attempt.http_status) == (error_class, http_status)
    assert attempt.error is not None
    assert attempt.error["message"] == str(error)
    assert (attempt.tokens_input, attempt.usage) == (None, usage)
    model = record.step("Refusing")
    assert (model.status, model.error_phase) == (StepStatus.FAILED, "provider")
    if http_status:
        assert attempt.request_id == "req-7"


class CutOff(BaseChatModel):
    """Streams two pieces; then the connection is gone, or nobody reads on."""

    error: Any = None

    @property
    def _llm_type(self) -> str:
        return "cut"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("whole"))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in ("so ", "far "):
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


async def test_a_stream_that_breaks_leaves_its_usage_unknown(recording: Recording) -> None:
    model = CutOff(error=ConnectionResetError("gone"))

    async def node(state: Data, config: RunnableConfig) -> Data:
        async for _ in model.astream("hi", config):
            pass
        return {"said": []}

    record = await recording.run(graph_of(node=node), {"said": []})
    (attempt,) = record.attempts
    assert attempt.status is StepStatus.FAILED
    assert (attempt.usage, attempt.error_class) == ("unknown", "temporary")
    assert (attempt.tokens_input, attempt.cost_pico) == (None, None)
    assert attempt.first_token_us is not None
    assert record.running.execution().totals.usage_unknown == 1


async def test_a_cancelled_call_is_a_cancelled_attempt_of_unknown_usage(
    recording: Recording,
) -> None:
    started = asyncio.Event()

    async def node(state: Data, config: RunnableConfig) -> Data:
        async for _ in CutOff().astream("hi", config):
            started.set()
        return {"said": []}

    task = asyncio.create_task(graph_of(node=node).ainvoke({"said": []}, recording.config))
    await started.wait()
    task.cancel()
    await asyncio.wait({task})
    recording.collector.finish(ExecutionStatus.CANCELLED)
    record = recording.record()
    (attempt,) = record.attempts
    assert (attempt.status, attempt.usage) == (StepStatus.CANCELLED, "unknown")
    assert {step.status for step in record.steps} == {StepStatus.CANCELLED}
    assert all(step.error is None for step in record.steps)


async def test_model_calls_under_a_model_node_of_ours_are_its_attempts(
    recording: Recording,
) -> None:
    model = talker("again")

    async def node(state: Data, config: RunnableConfig) -> Data:
        for _ in range(3):
            await model.ainvoke("hi", config)
        return {"results": {"ask": "again"}}  # type: ignore[typeddict-unknown-key]

    made = StateGraph(Data)
    made.add_node("ask", node, metadata={"holdfast_kind": "model", "holdfast_version": "4"})
    made.add_edge(START, "ask")
    record = await recording.run(made.compile(), {"said": []})
    (step,) = record.steps
    assert (step.kind, step.operation_version) == ("model", "4")
    assert [(one.step, one.n) for one in record.attempts] == [(1, 1), (1, 2), (1, 3)]


async def test_a_plain_text_model_is_recorded_too(recording: Recording) -> None:
    record = await run_model(recording, FakeListLLM(responses=["done"]))
    (attempt,) = record.attempts
    assert record.text(attempt.prompt_user) == "hi"
    assert record.text(record.step("FakeListLLM").output) == "done"
    assert attempt.usage == "unknown"


async def test_a_list_of_messages_is_kept_with_roles_and_system(recording: Recording) -> None:
    record = await run_model(
        recording,
        talker(),
        given=[("system", "Be kind."), ("human", "hi"), ("ai", "yes?"), ("human", "what now")],
    )
    (attempt,) = record.attempts
    assert record.text(attempt.prompt_system) == "Be kind."
    assert record.text(attempt.prompt_user) == "what now"
    roles = [message["role"] for message in record.text(attempt.messages)]
    assert roles == ["system", "user", "assistant", "user"]


# -- tools and retrievers --------------------------------------------------------------------------


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@tool
def refuse(a: int) -> int:
    """Refuses."""
    raise ToolException("not today")


async def test_tools_leave_their_arguments_and_results(recording: Recording) -> None:
    async def node(state: Data, config: RunnableConfig) -> Data:
        return {"said": [str(await add.ainvoke({"a": 1, "b": 2}, config))]}

    record = await recording.run(graph_of(node=node), {"said": []})
    step = record.step("add")
    assert (step.kind, step.parent) == ("tool", 1)
    assert record.text(step.input) == {"a": 1, "b": 2}
    assert record.text(step.output) == 3


async def test_a_tool_that_fails_says_so(recording: Recording) -> None:
    async def node(state: Data, config: RunnableConfig) -> Data:
        return {"said": [str(await refuse.ainvoke({"a": 1}, config))]}

    record = await recording.run(graph_of(node=node), {"said": []})
    step = record.step("refuse")
    assert step.status is StepStatus.FAILED
    assert step.error is not None
    assert step.error["message"] == "not today"


class Shelf(BaseRetriever):
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        if not query:
            raise LookupError("nothing asked")
        return [Document(page_content=f"about {query}", metadata={"page": 3})]


async def test_retrievers_leave_their_question_and_what_they_found(recording: Recording) -> None:
    async def node(state: Data, config: RunnableConfig) -> Data:
        await Shelf().ainvoke("cats", config)
        await Shelf().ainvoke("", config)
        return {"said": []}

    record = await recording.run(graph_of(node=node), {"said": []})
    found, failed = [step for step in record.steps if step.kind == "retriever"]
    assert record.text(found.input) == "cats"
    (document,) = record.text(found.output)
    assert (document["page_content"], document["metadata"]) == ("about cats", {"page": 3})
    assert failed.status is StepStatus.FAILED


# -- secrets ---------------------------------------------------------------------------------------


class WithSecrets(BaseChatModel):
    """Says its parameters and headers as providers' integrations do."""

    @property
    def _llm_type(self) -> str:
        return "secretive"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "temperature": 0.3,
            "max_tokens": 50,
            "api_key": "sk-planted-1",
            "azure_ad_token": "sk-planted-2",
            "default_headers": {"Authorization": "Bearer sk-planted-3", "X-Team": "a"},
            "extra": [{"client_secret": "sk-planted-4"}],
            "tools": [{"parameters": {"properties": {"password": {"type": "string"}}}}],
            "prompt_cache_key": "shared-prefix",
        }

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        headers = {
            "authorization": "Bearer sk-planted-5",
            "Set-Cookie": "session=sk-planted-6",
            "x-api-key": "sk-planted-7",
            "x-request-id": "req-1",
        }
        message = AIMessage("done", response_metadata={"headers": headers})
        return ChatResult(generations=[ChatGeneration(message=message)])


async def test_secrets_never_land_in_a_record(recording: Recording) -> None:
    record = await run_model(recording, WithSecrets(), given=[HumanMessage("hi")])
    assert b"sk-planted" not in b"".join(recording.sink.raw["x1"])
    (attempt,) = record.attempts
    assert attempt.parameters["temperature"] == 0.3
    assert attempt.parameters["max_tokens"] == 50
    assert attempt.parameters["prompt_cache_key"] == "shared-prefix"
    assert attempt.parameters["api_key"] == "***"
    assert attempt.parameters["default_headers"] == {"Authorization": "***", "X-Team": "a"}
    tools = record.text(attempt.parameters["tools"]["$"])
    assert tools[0]["parameters"]["properties"]["password"] == {"type": "string"}
    assert attempt.request_id == "req-1"
