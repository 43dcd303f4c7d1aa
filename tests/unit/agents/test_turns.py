"""One turn of a simple agent: what the model sees, what its calls do, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.domain.conversations import Speaker, Window
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.llm.scripted import ScriptedAnswer, ScriptedCall

from .conftest import Agents, Remembered, Rules, agent, calls, function, results, said, simple

X = ExecutionStatus


async def test_a_question_is_answered_and_recorded(parts: Any) -> None:
    parts.rules = Rules("Good day.")
    record = await Agents(agent(simple(system_prompt="Be {{ kind }}."))).say("hello")
    assert record.finished.status == X.SUCCEEDED, record.finished.error
    assert record.output["response"] == "Good day."
    assert record.output["tokens"] > 0
    (asked,) = parts.rules.asked
    assert asked.operation == "agent"
    assert asked.system == "Be {{ kind }}.", "the text as it stands, not a template"
    assert asked.user == "hello"
    assert record.tree() == {"recall": None, "agent": None}
    assert record.step("agent").kind == "model"
    (attempt,) = record.attempts
    assert attempt.alias == "fast"
    assert attempt.provider == "scripted"


async def test_all_calls_of_a_turn_are_made_side_by_side_and_each_is_a_step(parts: Any) -> None:
    meeting = asyncio.Barrier(2)  # neither gets through alone

    async def weather(city: str) -> str:
        """The weather of a city."""
        await meeting.wait()
        return f"sun in {city}"

    async def time(city: str) -> dict[str, str]:
        """The time in a city."""
        await meeting.wait()
        return {"city": city, "time": "12:00"}

    parts.weather, parts.time = weather, time
    parts.rules = Rules(
        [("weather", {"city": "Rome"}), ("time", {"city": "Oslo"})],
        lambda request: " / ".join(str(one.text) for one in results(request)),
    )
    agents = Agents(agent(simple(tools=[function("weather"), function("time")])))
    async with asyncio.timeout(10):
        record = await agents.say("weather in Rome, time in Oslo?")
    assert record.finished.status == X.SUCCEEDED, record.finished.error
    assert record.output["response"] == 'sun in Rome / {"city":"Oslo","time":"12:00"}'
    tools = [step for step in record.steps if step.kind == "tool"]
    assert {step.operation for step in tools} == {"weather", "time"}
    assert all(step.status is StepStatus.SUCCEEDED for step in tools)
    assert [step.operation for step in record.steps].count("tools") == 2
    assert "gather" not in record.tree()
    assert parts.rules.asked[0].tools == ("weather", "time")
    assert len(record.attempts) == 2


async def test_a_tool_that_must_run_alone_does(parts: Any) -> None:
    running: set[str] = set()
    beside: dict[str, set[str]] = {}

    def tool(name: str) -> Any:
        async def call() -> str:
            """Do something."""
            beside[name] = set(running)
            running.add(name)
            for _ in range(20):
                await asyncio.sleep(0)
            running.discard(name)
            return name

        call.__name__ = name
        return call

    for name in ("one", "two", "alone", "last"):
        setattr(parts, name, tool(name))
    tools = [function("one"), function("two"), function("alone", parallel=False)]
    tools.append(function("last", parallel=False))
    parts.rules = Rules([(name, {}) for name in ("alone", "one", "last", "two")], "done")
    record = await Agents(agent(simple(tools=tools))).say()
    assert record.output["response"] == "done"
    assert beside["two"] == {"one"}
    assert beside["alone"] == set()
    assert beside["last"] == set()
    assert len(results(parts.rules.asked[-1])) == 4


async def test_a_tool_that_fails_is_told_to_the_model_and_does_not_fail_the_others(
    parts: Any,
) -> None:
    def broken(key: str) -> str:
        """Look something up."""
        raise LookupError(f"no {key} here")

    def fine() -> str:
        """Say ok."""
        return "ok"

    parts.broken, parts.fine = broken, fine
    parts.rules = Rules([("broken", {"key": "k"}), ("fine", {})], "sorry")
    agents = Agents(agent(simple(tools=[function("broken"), function("fine")])))
    record = await agents.say()
    assert record.finished.status == X.SUCCEEDED
    failed, ok = results(parts.rules.asked[-1])
    assert failed.status == "error"
    assert failed.text == "Error: LookupError: no k here"
    assert ok.text == "ok"
    assert record.step("broken").status is StepStatus.FAILED
    assert record.step("fine").status is StepStatus.SUCCEEDED


async def test_a_tool_that_is_not_there_is_answered_and_on_record(parts: Any) -> None:
    def fine() -> str:
        """Say ok."""
        return "ok"

    parts.fine = fine
    parts.rules = Rules([("made_up", {"config": 1, "x": [2]})], "then not")
    record = await Agents(agent(simple(tools=[function("fine")]))).say()
    assert record.output["response"] == "then not"
    (message,) = results(parts.rules.asked[-1])
    assert message.text == "Error: there is no tool 'made_up' (there are: fine)"
    step = record.step("made_up")
    assert step.kind == "tool"
    assert step.status is StepStatus.FAILED


async def test_arguments_that_do_not_fit_are_told_by_name(parts: Any) -> None:
    def add(a: int, b: int = 2) -> int:
        """Add two numbers.

        Args:
            a: the first.
            b: the second.
        """
        return a + b

    parts.add = add
    parts.rules = Rules([("add", {"a": "many"})], [("add", {"a": 3})], "5")
    record = await Agents(agent(simple(tools=[function("add")]))).say()
    first, second = results(parts.rules.asked[-1])
    assert first.text.startswith("Error: the arguments do not fit: a: ")
    assert '(got "many")' in first.text
    assert second.text == "5"
    assert record.finished.status == X.SUCCEEDED


@pytest.mark.parametrize(
    "answer",
    [
        ScriptedAnswer(tool_calls=[ScriptedCall(name="echo", args="{text: 'hi', }")]),
        ScriptedAnswer(tool_calls=[ScriptedCall(name="echo", args='{"text": "hi"')]),
        '<tool_call>{"name": "echo", "arguments": {"text": "hi"}}</tool_call>',
        '```json\n{"name": "echo", "parameters": {"text": "hi"}}\n```',
        '{"name": "echo", "arguments": "{\\"text\\": \\"hi\\"}"}',
    ],
    ids=["loose", "cut off", "tagged", "fenced", "twice encoded"],
)
async def test_calls_that_models_break_are_mended(parts: Any, answer: Any) -> None:
    def echo(text: str) -> str:
        """Say it back."""
        return f"<{text}>"

    parts.echo = echo
    parts.rules = Rules(answer, lambda request: results(request)[-1].text)
    record = await Agents(agent(simple(tools=[function("echo")]))).say()
    assert record.output["response"] == "<hi>"
    second = parts.rules.asked[1].messages
    made = [one for one in second if getattr(one, "tool_calls", None)]
    assert [call["args"] for call in made[-1].tool_calls] == [{"text": "hi"}]


async def test_calls_that_cannot_be_mended_are_answered(parts: Any) -> None:
    def echo(text: str) -> str:
        """Say it back."""
        raise AssertionError("not called")

    parts.echo = echo
    broken = ScriptedAnswer(tool_calls=[ScriptedCall(name="echo", args="[1, 2]")])
    parts.rules = Rules(broken, "I gave up")
    record = await Agents(agent(simple(tools=[function("echo")]))).say()
    assert record.output["response"] == "I gave up"
    (message,) = results(parts.rules.asked[-1])
    assert "no JSON object" in message.text


async def test_two_calls_under_one_id_are_both_answered(parts: Any) -> None:
    def echo(text: str) -> str:
        """Say it back."""
        return text

    parts.echo = echo
    twice = [ScriptedCall(name="echo", args={"text": t}, id="same") for t in ("a", "b")]
    parts.rules = Rules(ScriptedAnswer(tool_calls=twice), "done")
    await Agents(agent(simple(tools=[function("echo")]))).say()
    last = parts.rules.asked[-1]
    assert {one.text for one in results(last)} == {"a", "b"}
    (made,) = [one.tool_calls for one in last.messages if getattr(one, "tool_calls", None)]
    assert [one.tool_call_id for one in results(last)] == [call["id"] for call in made]
    assert len({call["id"] for call in made}) == 2, "vendors take an id once"


async def test_json_that_is_no_call_is_an_answer(parts: Any) -> None:
    def echo(text: str) -> str:
        """Say it back."""
        return text

    parts.echo = echo
    parts.rules = Rules('{"name": "Eva", "arguments": {"text": "x"}}')
    record = await Agents(agent(simple(tools=[function("echo")]))).say()
    assert record.output["response"] == '{"name": "Eva", "arguments": {"text": "x"}}'


# -- limits ----------------------------------------------------------------------------------------


def counting(parts: Any) -> list[int]:
    made: list[int] = []

    def count(n: int = 0) -> str:
        """Count."""
        made.append(n)
        return str(len(made))

    parts.count = count
    return made


async def test_a_model_that_never_stops_calling_is_stopped(parts: Any) -> None:
    made = counting(parts)
    parts.rules = Rules([("count", {})])
    config = simple(tools=[function("count")], limits={"steps": 3})
    record = await Agents(agent(config)).say()
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert record.finished.error["code"] == "loop_exceeded"
    assert "limits.steps" in str(record.finished.error)
    assert len(record.attempts) == 3
    assert len(made) == 2, "no call is made whose result nobody would read"


async def test_calls_beyond_the_limit_are_not_made_and_the_model_may_still_answer(
    parts: Any,
) -> None:
    made = counting(parts)
    parts.rules = Rules([("count", {"n": n}) for n in range(3)], [("count", {})], "enough")
    config = simple(tools=[function("count")], limits={"tool_calls": 2})
    record = await Agents(agent(config)).say()
    assert record.output["response"] == "enough"
    assert sorted(made) == [0, 1]
    refused = [one for one in results(parts.rules.asked[-1]) if one.status == "error"]
    assert len(refused) == 2
    assert "2 calls were made" in refused[0].text


async def test_many_steps_do_not_meet_langgraphs_own_limit(parts: Any) -> None:
    made = counting(parts)
    parts.rules = Rules(*[[("count", {})]] * 40, "done")
    config = simple(
        tools=[function("count", parallel=False)], limits={"steps": 41, "tool_calls": 100}
    )
    record = await Agents(agent(config)).say()
    assert record.output["response"] == "done"
    assert len(made) == 40


async def test_an_empty_answer_is_asked_for_again_and_then_refused(parts: Any) -> None:
    parts.rules = Rules("", "here")
    record = await Agents(agent(simple())).say()
    assert record.output["response"] == "here"
    parts.rules = Rules("")
    record = await Agents(agent(simple())).say()
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert record.finished.error["code"] == "answer_invalid"


# -- what the model sees ---------------------------------------------------------------------------

WINDOW = Window(
    summaries=[said(Speaker.SUMMARY, "They talked of cats.")],
    messages=[
        said(Speaker.USER, "my name is Ann"),
        said(Speaker.ASSISTANT, "Hello Ann"),
        said(Speaker.USER, "what is my name?"),
    ],
    facts=["the user is called Ann"],
    left_out=3,
)


async def test_the_window_comes_before_the_question_which_stands_once(parts: Any) -> None:
    parts.rules = Rules("Ann")
    memory = Remembered(WINDOW)
    config = simple(memory={"token_budget": 500, "depth": 7}, system_prompt="S")
    record = await Agents(agent(config), memory=memory).say("what is my name?")
    assert record.output["response"] == "Ann"
    (asked,) = memory.asked
    assert (asked["token_budget"], asked["depth"]) == (500, 7)
    (request,) = parts.rules.asked
    told = [(one.type, str(one.text)) for one in request.messages]
    assert [kind for kind, _ in told] == ["system", "human", "human", "ai", "human"]
    assert told[0][1] == "S", "what users said gains no weight of instructions"
    assert "called Ann" in told[1][1]
    assert "They talked of cats." in told[1][1]
    assert [text for _, text in told].count("what is my name?") == 1
    assert told[-1][1] == "what is my name?"


async def test_with_memory_off_there_is_an_answer_and_nobody_is_asked(parts: Any) -> None:
    parts.rules = Rules("still here")
    memory = Remembered(WINDOW)
    record = await Agents(agent(simple(memory={"enabled": False})), memory=memory).say("hi")
    assert record.output["response"] == "still here"
    assert memory.asked == []
    assert [one.type for one in parts.rules.asked[0].messages] == ["human"]


async def test_a_turn_without_a_session_has_no_window(parts: Any) -> None:
    parts.rules = Rules("fine")
    memory = Remembered(WINDOW)
    record = await Agents(agent(simple()), memory=memory).say(spec={"session_id": None})
    assert record.output["response"] == "fine"
    assert memory.asked == []


async def test_nothing_of_a_turn_lingers_in_the_next(parts: Any) -> None:
    made = counting(parts)
    parts.rules = Rules([("count", {})], "one", "two")
    agents = Agents(
        agent(
            simple(tools=[function("count")], limits={"tool_calls": 1}, memory={"enabled": False})
        )
    )
    await agents.say("first")
    await agents.say("second")
    assert made == [0]
    assert [one.text for one in parts.rules.asked[-1].messages] == ["second"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"answer_language": "user"}, "Answer in the language of the question."),
        ({"answer_language": "German"}, "Answer in German."),
        ({"markdown": False}, "Answer in plain text, without Markdown."),
    ],
)
async def test_how_to_answer_is_said(parts: Any, settings: dict[str, Any], told: str) -> None:
    parts.rules = Rules("x")
    await Agents(agent(simple(**settings))).say()
    assert parts.rules.asked[0].system == told


async def test_pictures_reach_the_model(parts: Any) -> None:
    parts.rules = Rules("a cat")
    await Agents(agent(simple())).say("what is it?", image_urls=["https://example.org/cat.png"])
    (message,) = parts.rules.asked[0].messages
    assert message.content == [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
    ]


async def test_temperature_and_parameters_go_over_those_of_the_alias(parts: Any) -> None:
    parts.rules = Rules("x")
    record = await Agents(
        agent(simple(temperature=0.5)), models={"fast": {"model": "scripted:rules"}}
    ).say()
    # The scripted model has no temperature to set; that it is refused shows that it arrives.
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert "temperature" in record.finished.error["message"]


async def test_tokens_are_streamed_as_of_any_model(parts: Any) -> None:
    parts.rules = Rules(ScriptedAnswer(text="one two", chunks=["one ", "two"]))
    agents = Agents(agent(simple()))
    execution_id = agents.start()
    await agents.engine.drain()
    assert "".join(text for _, text in agents.sink.tokens_of[execution_id]) == "one two"
    assert len(agents.sink.tokens_of[execution_id]) == 2


async def test_a_call_with_words_keeps_both(parts: Any) -> None:
    counting(parts)
    parts.rules = Rules(lambda _: calls(("count", {}), text="Let me count."), "1")
    record = await Agents(agent(simple(tools=[function("count")]))).say()
    assert record.output["response"] == "1"
    assert "Let me count." in [one.text for one in parts.rules.asked[-1].messages]
