"""Follows an execution: one line for each thing that happens, streamed text as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from .drawing import decision_text, error_line, title, waits_text
from .figures import all_tokens, dollars, milliseconds, one_line, plain
from .terminal import console, style_of, write_json

if TYPE_CHECKING:
    from holdfast.client import Client

View = dict[str, Any]

_MARKS = {"succeeded": "✓", "skipped": "–", "cancelled": "–"}

GOOD = frozenset({"succeeded", "partial"})


async def follow(client: Client, execution_id: str, *, as_json: bool) -> bool:
    """Print what happens until the execution ends.

    Returns:
        Whether it ended well.
    """
    tail = Tail(console())
    async for entry in client.follow(execution_id):
        if as_json:
            write_json({"id": entry.id, "type": entry.type, "data": entry.data}, line=True)
        else:
            tail.take(entry.type, entry.data)
        if entry.type == "execution.finished":
            return entry.data["status"] in GOOD
    return False


class Tail:
    """Turns entries into lines; keeps what streamed text has left open."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._operations: dict[int, str] = {}
        self._streaming: int | None = None  # the step whose text stands on the open line

    def take(self, kind: str, data: View) -> None:
        """Show one entry; kinds this version does not know are passed over."""
        if kind == "tokens":
            self._tokens(data)
            return
        line = self._line(kind, data)
        if line is not None:
            self._close()
            self._out.print(line, soft_wrap=True)

    def _line(self, kind: str, data: View) -> Text | None:
        match kind:
            case "execution.started":
                return Text.assemble((one_line(data["name"]), "bold"), (f"  {data['id']}", "dim"))
            case "step.started":
                self._operations[data["step"]] = data["operation"]
                return self._step("▸", data, one_line(data["kind"]), "dim")
            case "attempt.started":
                about = f"attempt {data['n']}  {one_line(data['provider'] or '')}"
                return self._step(" ", data, about.rstrip(), "dim")
            case "attempt.finished":
                return self._step(" ", data, _attempt(data), style_of(data["status"]) or "none")
            case "step.finished":
                return self._step(_MARKS.get(data["status"], "✗"), data, _step(data))
            case "execution.waiting":
                return Text(f"… waits for {waits_text(data['waits'])}", "cyan")
            case "execution.paused":
                return Text("… paused", "cyan")
            case "execution.resumed":
                return Text("… goes on", "cyan")
            case "execution.finished":
                return _end(data)
            case _:
                return None

    def _step(self, mark: str, data: View, about: str, style: str = "none") -> Text:
        name = one_line(self._operations.get(data["step"], f"step {data['step']}"))
        colour = style_of(data.get("status", "")) or "cyan"
        return Text.assemble((f"{mark} ", colour), (name, "bold"), "  ", (about, style))

    def _tokens(self, data: View) -> None:
        if self._streaming != data["step"] or data.get("so_far"):
            self._close()
            self._streaming = data["step"]
            name = one_line(self._operations.get(data["step"], f"step {data['step']}"))
            self._out.print(Text.assemble("  ", (name, "dim"), " "), end="")
        self._out.print(Text(plain(data["text"])), end="", soft_wrap=True)

    def _close(self) -> None:
        if self._streaming is not None:
            self._streaming = None
            self._out.print()


def _attempt(data: View) -> str:
    tokens = data["tokens"]
    known = tokens["usage"] != "unknown"
    used = f"{tokens['input'] or 0:,} in  {tokens['output'] or 0:,} out" if known else "? tokens"
    took = milliseconds(data["duration_ms"])
    return f"attempt {data['n']} {data['status']}  {took}  {used}  {dollars(data['cost_usd'])}"


def _step(data: View) -> str:
    parts = [milliseconds(data["duration_ms"])]
    if data["status"] != "succeeded":
        parts.insert(0, data["status"])
    if data["kind"] == "router":
        parts.insert(0, decision_text(data))
    if data["skip_reason"]:
        parts.append(one_line(data["skip_reason"], 200))
    if data["error"]:
        parts.append(error_line(data["error"]))
    if data["suspicious"]:
        parts.append(f"suspicious: {'; '.join(one_line(one, 80) for one in data['suspicious'])}")
    return "  ".join(part for part in parts if part)


def _end(data: View) -> Text:
    line = Text.assemble(
        (title(data), "bold"),
        "  ",
        (data["status"], style_of(data["status"])),
        f"  {milliseconds(data['duration_ms'])}  {all_tokens(data)} tokens",
        f"  {dollars(data['cost_usd'], unknown=data['unknown']['cost'])}",
    )
    return line.append(f"  {error_line(data['error'])}", "red") if data["error"] else line
