"""Ready LangGraph graphs, as its documentation has them, run unchanged and are recorded whole."""

from __future__ import annotations

import pytest

from holdfast.domain.status import EventStatus, StepStatus

from .conftest import HubForTests, OpenHub

APPS = "langgraph_app:agent,langgraph_app:report,langgraph_app:loop,langgraph_app:functional"


@pytest.fixture(params=["runner", "in process"])
async def hub(request: pytest.FixtureRequest, open_hub: OpenHub):
    async with open_hub(in_process=request.param == "in process", runners=1, apps=APPS) as opened:
        yield opened


async def test_an_agent_with_tools(hub: HubForTests) -> None:
    event, whole = await hub.run(
        "langgraph_app.agent", messages=[{"role": "user", "content": "6 times 7?"}]
    )
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    steps = {step.step: step for step in whole.steps}
    names = [(step.kind, step.operation) for step in whole.steps]
    assert names.count(("node", "llm_call")) == 2
    assert names.count(("node", "tool_node")) == 1
    assert names.count(("model", "Calculator")) == 2
    assert names.count(("tool", "multiply")) == 1
    tool = next(step for step in whole.steps if step.kind == "tool")
    assert steps[tool.parent or 0].operation == "tool_node"
    assert whole.payload.get(tool.input) == {"a": 6, "b": 7}
    assert whole.payload.get(tool.output) in ("42", 42)
    first, second = whole.attempts
    assert steps[steps[first.step].parent or 0].operation == "llm_call"
    assert whole.payload.get(first.prompt_system) == "You do arithmetic."
    assert whole.payload.get(first.raw_response)["tool_calls"][0]["name"] == "multiply"
    assert [message["role"] for message in whole.payload.get(second.messages)] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert whole.execution.totals.tokens_input == 20
    assert whole.execution.totals.tokens_output == 10
    assert whole.execution.totals.cost_unknown == 2, "no price is known for it, and that is said"
    last = whole.payload.get(whole.execution.output)["messages"][-1]
    assert last["content"] == "It is 42."
    assert {step.status for step in whole.steps} == {StepStatus.SUCCEEDED}


async def test_workers_sent_to_by_a_plan(hub: HubForTests) -> None:
    event, whole = await hub.run("langgraph_app.report", topic="tea")
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert [step.operation for step in whole.steps if step.kind == "node"].count("write") == 3
    output = whole.payload.get(whole.execution.output)
    assert output["final"] == "about tea 0; about tea 1; about tea 2"


async def test_a_loop_with_a_subgraph_and_a_checkpointer_of_its_own(hub: HubForTests) -> None:
    for _ in range(2):  # the second run of the graph is not disturbed by the first
        event, whole = await hub.run("langgraph_app.loop", joke="cats")
        assert event.status is EventStatus.SUCCEEDED, event.last_error
        nodes = [step.operation for step in whole.steps if step.kind == "node"]
        assert nodes == ["tell", "grade", "tell", "grade", "inner", "polish"]
        polish = next(step for step in whole.steps if step.operation == "polish")
        parents = {step.step: step for step in whole.steps}
        above: list[str] = []
        at = polish.parent
        while at is not None:
            above.append(parents[at].operation)
            at = parents[at].parent
        assert "inner" in above
        assert whole.payload.get(whole.execution.output)["rounds"] == 2


async def test_the_functional_api(hub: HubForTests) -> None:
    event, whole = await hub.run("langgraph_app.functional", numbers=[1, 2, 3])
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    assert whole.payload.get(whole.execution.output) == {"squares": [1, 4, 9]}
    assert [step.operation for step in whole.steps].count("square") == 3
