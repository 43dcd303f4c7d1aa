"""The model node: a prompt in, a validated answer out, asked again within a limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel

from holdfast.domain.prompts import EDITED, Draft, Pin
from holdfast.errors import AnswerInvalid, DeclarationError, ModelError, SettingsError
from holdfast.llm.aliases import ModelChange
from holdfast.llm.calling import CallMark
from holdfast.llm.content.rules import read_rules
from holdfast.llm.factory import ChatModel
from holdfast.llm.recorded import recorded_chat
from holdfast.llm.scripted import Script
from holdfast.llm.wrappers.content import checked
from holdfast.ports import PlannedCall, Spending
from holdfast.recording import StepHandle, step_of
from holdfast.recording.handler import NO_STEP

from .answers import judge
from .context import current_run
from .nodes import Node
from .policy import PolicyOptions
from .prompt_files import PromptFiles
from .prompts import Prompt
from .state import State
from .wording import Asked, Stored, Wording, pin_key

R = TypeVar("R")

ASK_AGAIN = """\
Your answer was not accepted:
{errors}
Answer again: the whole corrected JSON object and nothing else."""


class ModelNode(Node[R]):
    """Asks a chat model; the result is the text, or an instance of `answer`.

    The schema's validators may look at the run: `info.context` is the node's `State`.
    """

    kind: ClassVar[str] = "model"

    def __init__(
        self,
        name: str,
        *,
        pipeline: str,
        version: str,
        prompt: str | Stored,
        system: str | None,
        alias: str,
        answer: type[BaseModel] | None,
        tries: int,
        credits: int,  # noqa: A002 - the record's own word
        models: Mapping[str, ModelChange],
        parameters: Mapping[str, Any] | None,
        script: Script | None,
        checks: Sequence[Mapping[str, Any]] = (),
        policy: PolicyOptions | None = None,
    ) -> None:
        self.answer = answer
        super().__init__(name, pipeline=pipeline, version=version, policy=policy)
        where = self.where
        if tries < 1:
            raise DeclarationError(f"{where}: tries={tries} leaves no try at all")
        if credits < 0:
            raise DeclarationError(f"{where}: credits={credits} is negative")
        self.alias = alias
        self.tries = tries
        self.credits = credits
        self.stored = prompt if isinstance(prompt, Stored) else None
        self._wording: Wording | None = None
        if isinstance(prompt, Stored):
            if system is not None:
                raise DeclarationError(
                    f"{where}: prompt {prompt.name} brings its own system message",
                    hint="put the text of system= into the prompt's static part",
                )
        else:
            before = None if system is None else Prompt(system, where)
            self._wording = Wording(Prompt(prompt, where), before)
        self._script = script
        self._checks = _acting(checks, where)
        self._models = models
        self.change = models.get(alias)
        if parameters is not None:
            own = ModelChange.of({"parameters": parameters}, where)
            self.change = own if self.change is None else self.change.with_parameters(parameters)

    def take_prompt(self, files: PromptFiles) -> None:
        """Find its prompt, where that is one of the registry.

        Raises:
            PromptFileError: there is no such prompt, or something is wrong with its file.
        """
        if self.stored is not None:
            self._wording = files.get(self.stored.name, self.where).wording

    @property
    def wording(self) -> Wording:
        """What its pipeline says; an execution may have another version of the same prompt.

        Raises:
            DeclarationError: its prompt was not looked for yet.
        """
        if self._wording is None:
            raise DeclarationError(
                f"{self.where}: its prompt is found when the pipeline is checked",
                hint="call check() on the pipeline first",
            )
        return self._wording

    def check_prompt(self, nodes: Collection[str], wording: Wording | None = None) -> None:
        """Prove that its prompt, or another in its place, uses only what a run can have.

        Raises:
            DeclarationError: it does not.
        """
        where = self.where if self.stored is None else f"{self.where}: prompt {self.stored.name}"
        for prompt in (wording or self.wording).prompts:
            prompt.check(nodes, where)

    async def run(self, state: State, config: RunnableConfig) -> Any:
        """Ask, and ask again while the answer does not fit.

        Raises:
            AnswerInvalid: no answer fitted within the limit of tries.
            PromptError: the prompt uses a result that is not there.
            Exception: whatever the model's client raises.
        """
        asked, step = self._messages(state), step_of(config)
        step.uses_prompt(asked.pin)
        chat = self._chat(state, step)
        if self.answer is None:
            options = chat.options(operation=self.name, mark=self._mark(asked))
            async with self._credits(chat) as charge:
                text = str((await chat.model.ainvoke(asked.messages, config, **options)).text)
                charge()
            if self.credits:
                step.validated(outcome=None, duration_us=0, credits=self.credits)
            return text
        return await self._ask(self.answer, chat, asked, state, config)

    def alias_for(self, state: State) -> str:  # noqa: ARG002 - for nodes whose event names it
        """By which alias the model is asked."""
        return self.alias

    def _chat(self, state: State, step: StepHandle = NO_STEP) -> ChatModel:
        run = current_run()
        alias, change = self.alias_for(state), self.change
        if run.plan and alias in run.plan.aliases:
            # Another model is asked as it is: parameters of this one may mean nothing to it.
            alias = run.plan.aliases[alias]
            change = self._models.get(alias)
        try:
            chat = run.models.chat(
                alias, script=self._script, pipeline=self.pipeline, change=change
            )
        except (SettingsError, ModelError):
            # No model of that name can be made here, and a record needs none.
            replaying, what = run.replaying, f'node "{self.name}"'
            tries = () if replaying is None else replaying.attempts(step.number, 1, what)
            if not tries:
                raise
            tried = tries[0]
            chat = recorded_chat(alias, tried.provider, tried.model, tried.parameters)
        return replace(chat, model=checked(chat.model, self._checks)) if self._checks else chat

    @property
    def key(self) -> str:
        """By which a replay's prompts name it, apart from its name in its own pipeline."""
        return f"{self.pipeline}:{self.name}"

    def _messages(self, state: State) -> Asked:
        return self._worded().asked(state)

    def _worded(self) -> Wording:
        """Its prompt in the current run: a replay's, the version the run has, or its own."""
        run = current_run()
        if run.plan is not None and (other := run.plan.prompts.get(self.key)):
            if "version" in other:
                return run.prompts[pin_key(other["name"], other["version"])]
            return self.edited(other)
        if self.stored is None:
            return self.wording
        return run.prompts.get(self.stored.key, self.wording)

    def _mark(self, asked: Asked) -> CallMark:
        """Which prompt it is, and what of it is the same in every call."""
        return CallMark(self.key if asked.pin is None else asked.pin.name, asked.static)

    async def _ask(
        self,
        schema: type[BaseModel],
        chat: ChatModel,
        asked: Asked,
        state: State,
        config: RunnableConfig,
    ) -> BaseModel:
        step, messages = step_of(config), asked.messages
        options = chat.options(operation=self.name, schema=schema, mark=self._mark(asked))
        errors: Sequence[str] = ()
        for _ in range(self.tries):
            async with self._credits(chat) as charge:
                reply = await chat.model.ainvoke(messages, config, **options)
                verdict = judge(str(reply.text), schema, state)  # LangChain's is a subclass of str
                accepted = verdict.answer is not None
                if accepted:
                    charge()
            step.validated(
                outcome=verdict.outcome,
                duration_us=verdict.duration_us,
                errors=verdict.errors,
                credits=self.credits if accepted else 0,
            )
            if verdict.answer is not None:
                return verdict.answer
            errors = verdict.errors
            complaint = ASK_AGAIN.format(errors="\n".join(f"- {line}" for line in errors))
            # A list of its own each time: the record may still hold the one before.
            messages = [*messages, reply, HumanMessage(complaint)]
        raise AnswerInvalid(
            f"{self.where} got no valid {schema.__name__} in {self.tries} "
            f"{'try' if self.tries == 1 else 'tries'}; the last answer: {'; '.join(errors)}",
            error_class="permanent",
            hint="look at the attempts' raw responses; loosen the schema or sharpen the prompt",
        )

    @asynccontextmanager
    async def _credits(self, chat: ChatModel) -> AsyncGenerator[Callable[[], None]]:
        """Keep the credits of an answer aside while it is asked for.

        Raises:
            BudgetExceeded: a budget has no room for them.
        """
        budgets = current_run().ports.budgets
        charged: list[bool] = []
        reservation = None
        if budgets.wanted():
            reservation = await budgets.reserve(
                PlannedCall(alias=chat.alias, credits=self.credits, operation=self.name)
            )
        try:
            yield lambda: charged.append(True)
        finally:
            if reservation is not None:
                budgets.settle(Spending(reservation, credits=bool(charged)))

    def edited(self, other: Mapping[str, str]) -> Wording:
        """Its prompt with other templates in their places.

        Args:
            other: templates by part: `user`, `system`.

        Raises:
            DeclarationError: a template's syntax is wrong.
        """
        own = self.wording
        constants = own.user.constants
        system, user = own.system, own.user
        if "system" in other:
            system = Prompt(other["system"], self.where, constants=constants)
        if "user" in other:
            user = Prompt(other["user"], self.where, constants=constants)
        content = Draft(
            name="" if self.stored is None else self.stored.name,
            static=system.source if system else "",
            dynamic=user.source,
            definitions=constants,
        )
        return Wording(user, system, Pin(name=content.name, label=EDITED, hash=content.hash))

    def describe(self) -> dict[str, Any]:
        """Also the alias, the answer's schema by name, and a prompt of the registry by name."""
        answer = self.answer.__name__ if self.answer else None
        told = {**super().describe(), "alias": self.alias, "answer": answer}
        return told if self.stored is None else {**told, "prompt": self.stored.key}

    def result_type(self) -> Any:
        """The answer's schema, or text."""
        return self.answer or str

    def kept_type(self) -> Any:
        """See `result_type`."""
        return self.result_type()

    def cache_input(self, state: State) -> Any:
        """The messages it would send, to which model, and the schema asked for."""
        chat = self._chat(state)
        schema = self.answer.model_json_schema() if self.answer else None
        return [
            self._messages(state).messages,
            chat.provider,
            chat.model_name,
            chat.parameters,
            schema,
        ]

    def sources(self) -> list[object]:
        """The answer's schema."""
        return [self.answer] if self.answer else []


def _acting(rules: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    """A node's own content checks.

    Raises:
        DeclarationError: a rule is wrong, or flags: that is the hub's, which has one set of rules.
    """
    try:
        read = read_rules(list(rules), f"{where}: checks")
    except SettingsError as error:
        raise DeclarationError(error.message, hint=error.hint) from error
    if any(rule.action == "flag" for rule in read):
        raise DeclarationError(
            f"{where}: checks redact or refuse here", hint="set HOLDFAST_CHECKS for what is flagged"
        )
    return [rule.plain() for rule in read]
