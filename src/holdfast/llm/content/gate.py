"""What happens to a text before a model reads it, or before what it said goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage

from holdfast.errors import ContentRefused

from .placeholders import Placeholders, spans
from .rules import Rule

_NOT_READ = frozenset(
    {"type", "id", "tool_call_id", "index", "data", "url", "image_url", "source", "signature"}
)
"""Members of a message's blocks that say nothing."""


REDACTED = "holdfast_redacted"
"""Under which a run's and an answer's metadata say how much of which kind was taken out."""

held_back: ContextVar[bool] = ContextVar("holdfast_held_back", default=False)
"""Whether the pieces of the answer under way may not be shown: the whole is to be checked first."""

placeholders: ContextVar[Placeholders | None] = ContextVar("holdfast_placeholders", default=None)
"""Those of the execution under way."""


acts: ContextVar[Callable[[str, str, str], None] | None] = ContextVar(
    "holdfast_content_acts", default=None
)
"""Who is told, in the execution under way, that a check acted: its name, the action, on what."""


class Gate:
    """Redacts and refuses at one place, by the rules that do."""

    def __init__(self, rules: Sequence[Rule], on: str) -> None:
        """Keep the rules of a place.

        Args:
            rules: those of other places and other actions are left out.
            on: the place.
        """
        self.on = on
        at = [rule for rule in rules if rule.on == on]
        self._refusing = [rule for rule in at if rule.action == "refuse"]
        self._redacting = [rule for rule in at if rule.action == "redact"]

    @property
    def acts(self) -> bool:
        """Whether there is anything to do at all."""
        return bool(self._refusing or self._redacting)

    def messages(self, given: Sequence[BaseMessage]) -> tuple[list[BaseMessage], Counter[str]]:
        """Messages as they may go on, and how much of which kind was taken out.

        All are looked at before any is changed, so that what is refused leaves no trace.

        Raises:
            ContentRefused: a check that refuses found something.
        """
        for message in given:
            _changed(message, self._refuse)
        taken: Counter[str] = Counter()
        if not self._redacting:
            return list(given), taken
        table = placeholders.get() or Placeholders()

        def redact(text: str) -> str:
            return self._redact(text, table, taken)

        changed = [_changed(message, redact) for message in given]
        for check in sorted({name.rpartition(": ")[0] for name in taken}):
            self._tell(check, "redact")
        return changed, taken

    def _tell(self, check: str, action: str) -> None:
        if (tell := acts.get()) is not None:
            tell(check, action, self.on)

    def _refuse(self, text: str) -> str:
        for rule in self._refusing:
            for found in rule.find(text):
                self._tell(rule.check, "refuse")
                raise ContentRefused(
                    f"the {self.on} of a model call was refused: {rule.check} found {found.kind}",
                    hint="what was found is not repeated here; see the rules of HOLDFAST_CHECKS",
                )
        return text

    def _redact(self, text: str, table: Placeholders, taken: Counter[str]) -> str:
        for rule in self._redacting:
            pieces: list[str] = []
            at = 0
            for kind, start, end in spans(rule.find(text)):
                pieces += [text[at:start], table.of(kind, text[start:end])]
                taken[f"{rule.check}: {kind}"] += 1
                at = end
            if pieces:
                text = "".join([*pieces, text[at:]])
        return text


def _changed(message: BaseMessage, change: Callable[[str], str]) -> BaseMessage:
    """A message with each text in it changed; itself when none is."""
    update: dict[str, Any] = {"content": _in(message.content, change)}
    if isinstance(message, AIMessage):
        for name in ("tool_calls", "invalid_tool_calls"):
            update[name] = _in(getattr(message, name), change)
    if message.additional_kwargs:
        update["additional_kwargs"] = _in(message.additional_kwargs, change)
    update = {name: value for name, value in update.items() if value != getattr(message, name)}
    if not update:
        return message
    # Probabilities of tokens spell the answer out a second time.
    facts = {k: v for k, v in message.response_metadata.items() if k != "logprobs"}
    return message.model_copy(update={**update, "response_metadata": facts})


def _in(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return {k: v if k in _NOT_READ else _in(v, change) for k, v in members.items()}
    if isinstance(value, list):
        return [_in(one, change) for one in cast("list[Any]", value)]
    return value


def told(counts: Mapping[str, int], on: str) -> list[str]:
    """What the record says of what was taken out, such as `redacted: personal: 2 e-mail`."""
    place = " (in the answer)" if on == "output" else ""
    lines: list[str] = []
    for name, count in sorted(counts.items()):
        check, _, kind = name.rpartition(": ")
        lines.append(f"redacted: {check}: {count} {kind}{place}")
    return lines
