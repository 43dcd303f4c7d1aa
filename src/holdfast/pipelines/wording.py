"""What a model node says: its prompt ready to be filled in, and what the record says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from holdfast.domain.prompts import LABEL, NAME, RESERVED, Draft, Pin, name_fault
from holdfast.errors import DeclarationError

from .prompts import Prompt
from .state import State


@dataclass(frozen=True, slots=True)
class Stored:
    """A prompt of the registry, by name; made with `stored`."""

    name: str
    label: str | None

    @property
    def key(self) -> str:
        """By which an execution's pins name it."""
        return pin_key(self.name, self.label)


def stored(name: str, *, label: str | None = None) -> Stored:
    """A prompt of the registry instead of a template in the code.

    ```python
    triage.model("judge", prompt=stored("support/judge", label="production"), …)
    ```

    Args:
        name: of a file `prompts/support/judge.md` beside the app, or in one of the folders of
            `HOLDFAST_PROMPTS`.
        label: the version this label stands at, where the event's owner has set it; the file's
            text until then, and without a label always.

    Raises:
        DeclarationError: the name or the label cannot be used.
    """
    if fault := name_fault(name):
        raise DeclarationError(fault, hint=f"a name fits {NAME.pattern}")
    if label is not None and (label in RESERVED or not LABEL.fullmatch(label)):
        raise DeclarationError(
            f"prompt {name}: {label!a} is no label that can be asked for",
            hint="without a label the file's own text is used",
        )
    return Stored(name, label)


def pin_key(name: str, label: str | None) -> str:
    """How an execution's pins name a prompt as it is asked for."""
    return name if label is None else f"{name}@{label}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A model node's messages for one state of its run.

    Attributes:
        messages: in order; never empty.
        static: how many of the first ones are the same in every call.
        pin: the prompt's name and version; None for one that stands in the code.
    """

    messages: list[BaseMessage]
    static: int
    pin: Pin | None


@dataclass(frozen=True, slots=True, eq=False)
class Wording:
    """A prompt whose templates are compiled.

    Attributes:
        user: what each run fills in.
        system: what comes before it; None for nothing.
        pin: see `Asked`.
    """

    user: Prompt
    system: Prompt | None = None
    pin: Pin | None = None

    @property
    def prompts(self) -> Sequence[Prompt]:
        """Its templates."""
        return [self.user] if self.system is None else [self.system, self.user]

    def asked(self, state: State) -> Asked:
        """The messages for one run.

        Raises:
            PromptError: a value it uses is not there.
        """
        human = HumanMessage(self.user.render(state))
        if self.system is None:
            return Asked([human], 0, self.pin)
        system = SystemMessage(self.system.render(state))
        return Asked([system, human], int(self.system.fixed), self.pin)


def worded(draft: Draft, label: str) -> Wording:
    """The wording of a version of the registry.

    Raises:
        DeclarationError: a template's syntax is wrong.
    """
    where, constants = f"prompt {draft.name}", draft.definitions
    return Wording(
        user=Prompt(draft.dynamic, where, constants=constants),
        system=Prompt(draft.static, where, constants=constants) if draft.static else None,
        pin=Pin(name=draft.name, label=label, hash=draft.hash),
    )
