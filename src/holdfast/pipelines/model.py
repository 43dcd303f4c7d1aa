"""The model node: a prompt in, a validated answer out, asked again within a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel

from holdfast.errors import AnswerInvalid, DeclarationError, ModelError, SettingsError
from holdfast.llm.factory import ChatModel
from holdfast.llm.recorded import recorded_chat
from holdfast.llm.scripted import Script
from holdfast.recording import StepHandle, step_of
from holdfast.recording.handler import NO_STEP

from .answers import judge
from .context import current_run, within_budget
from .nodes import Node
from .policy import PolicyOptions
from .prompts import Prompt
from .state import State

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
        prompt: str,
        system: str | None,
        alias: str,
        answer: type[BaseModel] | None,
        tries: int,
        credits: int,  # noqa: A002 - the record's own word
        script: Script | None,
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
        self.prompts = [Prompt(text, where) for text in (system, prompt) if text is not None]
        self._script = script

    async def run(self, state: State, config: RunnableConfig) -> Any:
        """Ask, and ask again while the answer does not fit.

        Raises:
            AnswerInvalid: no answer fitted within the limit of tries.
            PromptError: the prompt uses a result that is not there.
            Exception: whatever the model's client raises.
        """
        messages = self._messages(state)
        chat = self._chat(step_of(config))
        if self.answer is None:
            options = chat.options(operation=self.name)
            return str((await chat.model.ainvoke(messages, config, **options)).text)
        return await self._ask(self.answer, chat, messages, state, config)

    def _chat(self, step: StepHandle = NO_STEP) -> ChatModel:
        run = current_run()
        alias = run.plan.aliases.get(self.alias, self.alias) if run.plan else self.alias
        try:
            return run.models.chat(alias, script=self._script, pipeline=self.pipeline)
        except (SettingsError, ModelError):
            # No model of that name can be made here, and a record needs none.
            replaying, what = run.replaying, f'node "{self.name}"'
            tried = None if replaying is None else replaying.attempt(step.number, 1, what)
            if tried is None:
                raise
            return recorded_chat(alias, tried.provider, tried.model, tried.parameters)

    @property
    def key(self) -> str:
        """By which a replay's prompts name it, apart from its name in its own pipeline."""
        return f"{self.pipeline}:{self.name}"

    def _messages(self, state: State) -> list[BaseMessage]:
        plan = current_run().plan
        prompts = self.prompts
        if plan is not None and (other := plan.prompts.get(self.key)):
            prompts = self.prompts_with(other)
        texts = [prompt.render(state) for prompt in prompts]
        return [*map(SystemMessage, texts[:-1]), HumanMessage(texts[-1])]

    async def _ask(
        self,
        schema: type[BaseModel],
        chat: ChatModel,
        messages: list[BaseMessage],
        state: State,
        config: RunnableConfig,
    ) -> BaseModel:
        step = step_of(config)
        options = chat.options(operation=self.name, schema=schema)
        errors: Sequence[str] = ()
        for _ in range(self.tries):
            within_budget(self.where, asks=True)
            reply = await chat.model.ainvoke(messages, config, **options)
            verdict = judge(str(reply.text), schema, state)  # LangChain's is a subclass of str
            accepted = verdict.answer is not None
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

    def prompts_with(self, other: Mapping[str, str]) -> list[Prompt]:
        """Its prompts with others in their places.

        Args:
            other: templates by part: `user`, `system`.

        Raises:
            DeclarationError: a template's syntax is wrong.
        """
        system = [Prompt(other["system"], self.where)] if "system" in other else self.prompts[:-1]
        user = Prompt(other["user"], self.where) if "user" in other else self.prompts[-1]
        return [*system, user]

    def describe(self) -> dict[str, Any]:
        """Also the alias and the answer's schema by name."""
        answer = self.answer.__name__ if self.answer else None
        return {**super().describe(), "alias": self.alias, "answer": answer}

    def result_type(self) -> Any:
        """The answer's schema, or text."""
        return self.answer or str

    def kept_type(self) -> Any:
        """See `result_type`."""
        return self.result_type()

    def cache_input(self, state: State) -> Any:
        """The messages it would send, to which model, and the schema asked for."""
        chat = self._chat()
        schema = self.answer.model_json_schema() if self.answer else None
        return [self._messages(state), chat.provider, chat.model_name, chat.parameters, schema]

    def sources(self) -> list[object]:
        """The answer's schema."""
        return [self.answer] if self.answer else []
