"""What was said: an execution's input, prompts, answers and output as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from . import attempts as tries
from .figures import dollars, milliseconds, one_line, plain
from .terminal import style_of

View = dict[str, Any]

SCRIPTED_ANSWER = "answer (rules, not a language model)"


def transcript(view: View) -> Iterator[Text]:
    """The execution's texts, in order of its steps."""
    yield from _passage("input", view["input"])
    for step in view["steps"]:
        shown: Sequence[Any] = ()
        for attempt in step["attempts"]:
            yield Text()
            yield _heading(step, attempt)
            shown = yield from _prompts(attempt, shown)
            yield from _answer(attempt)
        if trace := (step["error"] or {}).get("traceback"):
            yield Text()
            yield Text(f"{one_line(step['operation'])} failed", "bold red")
            yield from _passage("traceback", trace)
    yield Text()
    yield from _passage("output", view["output"])


def _heading(step: View, attempt: View) -> Text:
    facts = [f"attempt {attempt['n']}", *_known(attempt, "provider", "model")]
    facts.append(milliseconds(attempt["duration_ms"]))
    if attempt["first_token_ms"] is not None:
        facts.append(f"first token {milliseconds(attempt['first_token_ms'])}")
    facts.append(dollars(attempt["cost_usd"]))
    facts += [f"{name}={one_line(value, 60)}" for name, value in attempt["parameters"].items()]
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


def _prompts(attempt: View, shown: Sequence[Any]) -> Iterator[Text]:
    """The messages sent; those the attempt before began with too are not told again."""
    messages: list[Any] = attempt["messages"] if isinstance(attempt["messages"], list) else []
    if not messages:
        for role in ("system", "user"):
            if attempt[f"prompt_{role}"] is not None:
                messages.append({"role": role, "content": attempt[f"prompt_{role}"]})
    same = 0
    while same < min(len(shown), len(messages)) and shown[same] == messages[same]:
        same += 1
    if same:
        yield Text(f"  the {same} messages of the attempt before, then", "dim")
    for message in messages[same:]:
        content = message.get("content") if isinstance(message, dict) else message
        role = message.get("role", "message") if isinstance(message, dict) else "message"
        yield from _passage(role, content)
        for call in message.get("tool_calls", []) if isinstance(message, dict) else []:
            yield from _passage("tool call", call)
    return messages


def _answer(attempt: View) -> Iterator[Text]:
    raw = attempt["raw_response"]
    if raw is None:
        return
    name = SCRIPTED_ANSWER if attempt["provider"] == "scripted" else "answer"
    content = raw.get("content") if isinstance(raw, dict) else raw
    yield from _passage(name, content if content else raw)
    for call in raw.get("tool_calls", []) if isinstance(raw, dict) and content else []:
        yield from _passage("tool call", call)


def _passage(name: str, value: Any) -> Iterator[Text]:
    yield Text(f"  {one_line(name)}", "cyan")
    for line in plain(as_text(value)).split("\n"):
        yield Text(f"    {line}".rstrip())


def as_text(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
