"""What was said: an execution's input, prompts, answers and output as plain text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from rich.text import Text

from . import attempts as tries
from .figures import dollars, milliseconds, one_line, plain
from .terminal import style_of

View = dict[str, Any]

_SHORT = 20
"""Parameters up to this many characters stand in an attempt's heading."""

SCRIPTED_ANSWER = "answer (rules, not a language model)"


def transcript(view: View) -> Iterator[Text]:
    """The execution's texts, in order of its steps."""
    yield from passage("input", view["input"])
    for step in view["steps"]:
        shown: list[View] = []
        for attempt in step["attempts"]:
            yield Text()
            yield _heading(step, attempt)
            yield from _prompts(attempt, shown)
            shown = sent(attempt)
            yield from _answer(attempt)
        if step["error"] and (trace := step["error"].get("traceback")):
            yield Text()
            yield Text(f"{one_line(step['operation'])} failed", "bold red")
            yield from passage("traceback", trace)
    yield Text()
    yield from passage("output", view["output"])


def _heading(step: View, attempt: View) -> Text:
    facts = [f"attempt {attempt['n']}", *_known(attempt, "provider", "model")]
    facts.append(milliseconds(attempt["duration_ms"]))
    if attempt["first_token_ms"] is not None:
        facts.append(f"first token {milliseconds(attempt['first_token_ms'])}")
    facts.append(dollars(attempt["cost_usd"]))
    facts += [
        f"{name}={one_line(value)}"
        for name, value in attempt["parameters"].items()
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= _SHORT)
    ]
    if attempt["finish_reason"]:
        facts.append(f"finish {one_line(attempt['finish_reason'])}")
    if attempt["request_id"]:
        facts.append(f"request {one_line(attempt['request_id'])}")
    verdict = tries.verdict(attempt)
    style = "none" if verdict == "ok" else style_of(attempt["status"])
    return Text.assemble(
        (one_line(step["operation"]), "bold"),
        (" · " + " · ".join(facts) + " · ", "dim"),
        (verdict, style),
    )


def _known(attempt: View, *names: str) -> list[str]:
    return [one_line(attempt[name]) for name in names if attempt[name]]


def _prompts(attempt: View, shown: list[View]) -> Iterator[Text]:
    """The messages sent, without those that the attempt before began with too."""
    messages = sent(attempt)
    same = 0
    while same < min(len(shown), len(messages)) and shown[same] == messages[same]:
        same += 1
    if same:
        yield Text(f"  the {same} messages of the attempt before, then", "dim")
    for message in messages[same:]:
        yield from _message(str(message.get("role", "message")), message)


def sent(attempt: View) -> list[View]:
    """The messages of a call; where no list was kept, its system and user prompts."""
    if attempt["messages"]:
        return cast("list[View]", attempt["messages"])
    prompts = ((role, attempt[f"prompt_{role}"]) for role in ("system", "user"))
    return [{"role": role, "content": text} for role, text in prompts if text is not None]


def _answer(attempt: View) -> Iterator[Text]:
    raw: Any = attempt["raw_response"]
    if raw is None:
        return
    name = SCRIPTED_ANSWER if attempt["provider"] == "scripted" else "answer"
    if isinstance(raw, dict) and "content" in raw:
        yield from _message(name, cast("View", raw))
    else:
        yield from passage(name, raw)


def _message(name: str, message: View) -> Iterator[Text]:
    calls: list[Any] = message.get("tool_calls") or []
    if message.get("content") or not calls:
        yield from passage(name, message.get("content"))
    for call in calls:
        yield from passage(f"{name}: tool call", call)


def passage(name: str, value: Any) -> Iterator[Text]:
    """A text or JSON value, indented under its name."""
    yield Text(f"  {one_line(name)}", "cyan")
    for line in plain(as_text(value)).split("\n"):
        yield Text(f"    {line}".rstrip())


def as_text(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
