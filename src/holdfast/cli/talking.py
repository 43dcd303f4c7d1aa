"""One turn of a conversation on a terminal: words as they come, tool calls in a dim line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from .drawing import is_scripted
from .figures import all_tokens, dollars, milliseconds, one_line, plain

View = dict[str, Any]

RULES = "rules, not a language model"

PROMPT = " › "


class Flow:
    """Writes text that comes in pieces, broken between words."""

    def __init__(self, out: Console, column: int = 0) -> None:
        self._out = out
        self._column = column
        self._gap = ""  # white space before the next word
        self._word = ""

    def write(self, text: str) -> None:
        """Write what is whole; the last word waits for its end."""
        for char in plain(text):
            if char == "\n":
                self._flush()
                self._gap, self._column = "", 0
                self._print("\n")
            elif char.isspace():
                self._flush()
                self._gap += char
            else:
                self._word += char

    def end(self) -> None:
        """Write the last word too."""
        self._flush()
        self._gap = ""

    def _flush(self) -> None:
        if not self._word:
            return
        width = cell_len(self._gap) + cell_len(self._word)
        if self._column and self._column + width > self._out.width:
            self._print("\n")
            self._gap, self._column, width = "", 0, cell_len(self._word)
        self._print(self._gap + self._word)
        # A word longer than a line is broken by the terminal; a full line is not yet the next one.
        self._column = (self._column + width - 1) % self._out.width + 1
        self._gap = self._word = ""

    def _print(self, text: str) -> None:
        self._out.print(Text(text), end="", soft_wrap=True)


class Screen:
    """Shows a turn while it goes on."""

    def __init__(self, out: Console, name: str) -> None:
        self._out = out
        self._name = name
        self._flow: Flow | None = None  # of the open line
        self._step: int | None = None  # whose words stand on it
        self._said = ""  # by that step
        self._tools: set[tuple[int, str]] = set()

    def take(self, kind: str, data: View) -> None:
        """Show one entry; kinds this version does not know are passed over."""
        match kind:
            case "token":
                self._token(data)
            case "tool":
                self._tool(data)
            case "message":
                self._answer(str(data["response"]))
            case "waiting":
                for question in questions(data["waits"]):
                    self._close()
                    self._write(question)
                self._close()
            case _:
                pass

    def stop(self) -> None:
        """End the line that is open."""
        self._close()

    def aside(self, text: str) -> None:
        """Something about the talk, not of it."""
        self._close()
        self._out.print(Text(f"  {one_line(text)}", "dim"))

    def _token(self, data: View) -> None:
        text, so_far = str(data["text"]), int(data["so_far"])
        again = so_far == 0 and self._said  # a further try says it anew
        if data["step"] != self._step or again:
            self._close()
            self._step = data["step"]
        self._write(text[max(len(self._said) - so_far, 0) :])

    def _tool(self, data: View) -> None:
        """Once when it begins, and once more if it fails."""
        call = (data.get("step") or 0, str(data["name"]))
        failed = data.get("status") == "failed"
        if call in self._tools and not failed:
            return
        self._tools.add(call)
        self.aside(f"· {call[1]}{' failed' if failed else ''}")

    def _answer(self, response: str) -> None:
        """The rest of what was streamed; said anew where that was another, or words were lost."""
        said = self._said
        if said and response.startswith(said.rstrip()):
            self._write(response[len(said) :])
        else:
            self._close()
            self._write(response)
        self._close()

    def _write(self, text: str) -> None:
        self._said += text
        if self._flow is None:
            text = text.lstrip()
            if not text:
                return
            name = one_line(self._name)
            self._out.print(Text.assemble((name, "bold cyan"), (PROMPT, "dim")), end="")
            self._flow = Flow(self._out, cell_len(name + PROMPT))
        self._flow.write(text)

    def _close(self) -> None:
        if self._flow is not None:
            self._flow.end()
            self._out.print()
        self._flow, self._step, self._said = None, None, ""


def questions(waits: Sequence[View]) -> list[str]:
    """What a halted turn wants to know, a text each."""
    asked: list[str] = []
    for wait in waits:
        question: Any = wait.get("question")
        if isinstance(question, dict):
            question = cast("View", question).get("question", question)
        asked.append(question if isinstance(question, str) else one_line(question or wait["name"]))
    return asked


def takes_message(waits: Sequence[View]) -> bool:
    """Whether the next message is the answer."""
    asked: list[Any] = [wait.get("question") for wait in waits]
    return any(isinstance(one, dict) and cast("View", one).get("takes_message") for one in asked)


def footer(execution: View) -> str:
    """What a turn took, and who answered where that was no language model."""
    facts = [
        milliseconds(execution["duration_ms"]),
        f"{all_tokens(execution)} tokens",
        dollars(execution["cost_usd"], unknown=execution["unknown"]["cost"]),
    ]
    return " · ".join([*facts, *([RULES] if is_scripted(execution) else [])])
