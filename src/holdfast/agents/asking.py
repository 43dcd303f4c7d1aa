"""The nodes of a simple agent that ask a model: the agent itself, its critic, its second thoughts.

Each is a model node of a pipeline in what matters: aliases, replays, prompts of the registry,
budgets and the record are the same code.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp
from pydantic import BaseModel, ConfigDict, Field

from holdfast.errors import AnswerInvalid, LoopExceeded, PromptError, ReplayMismatch
from holdfast.llm.aliases import ModelChange
from holdfast.llm.content.gate import held_back
from holdfast.llm.factory import ChatModel
from holdfast.llm.scripted import Script
from holdfast.pipelines.context import current_run
from holdfast.pipelines.model import ModelNode
from holdfast.pipelines.prompt_files import PromptFiles
from holdfast.pipelines.prompts import Prompt
from holdfast.pipelines.state import Failure, State
from holdfast.pipelines.wording import Asked, Wording
from holdfast.recording import StepHandle, step_of
from holdfast.recording.messages import message_fields

from .calls import Broken, mended, refusal
from .config import USER_LANGUAGE, Critique, SimpleSettings
from .turn import AGENT, CRITIQUE, RECALL, REVISE, Turn, draft, earlier

ANSWER_NOW = "Answer now, in words."
"""Said once to a model that gave neither an answer nor a call."""

PLAIN_TEXT = "Answer in plain text, without Markdown."
THEIR_LANGUAGE = "Answer in the language of the question."

CRITIC = """\
You look at an answer before it is given. Judge only this: does it answer what was asked, is it \
right as far as the conversation and the tools' results tell, and does it follow the instructions?
Accept what is good enough. Send back only what a reader would have to complain about, and then \
say in each remark what to change."""

REMARKS = """\
Before this answer is given it was looked at, and sent back:
{remarks}
Write the whole answer anew, and nothing about this note."""

SHOWN_CHARS = 4_000
"""Of each tool's result that the critic sees."""


class Verdict(BaseModel):
    """What the critic makes of an answer."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["accept", "revise"] = Field(description="accept it, or send it back")
    remarks: list[str] = Field(
        default_factory=list, max_length=10, description="what to change; empty when accepted"
    )


class AskingNode(ModelNode[Any]):
    """What they share: the alias with the agent's parameters, and its prompt."""

    def __init__(
        self,
        name: str,
        *,
        agent: str,
        version: str,
        settings: SimpleSettings,
        alias: str,
        script: Script | None,
        where: str,
        answer: type[BaseModel] | None = None,
    ) -> None:
        self.settings = settings
        # What is said here on top of an alias of the settings; `agent` has it already.
        changes = settings.changes if alias == settings.model else {}
        asked = settings.stored if answer is None else None
        super().__init__(
            name,
            pipeline=agent,
            version=version,
            prompt=asked or "",
            system=None,
            alias=alias,
            answer=answer,
            tries=2,
            credits=0,
            models={alias: ModelChange.of({"parameters": changes}, where)} if changes else {},
            parameters=None,
            script=script,
        )
        self.where = f'{where}: node "{name}"'
        if asked is None and answer is None:
            # The text as it stands, whatever braces are in it.
            text = {"system_prompt": settings.system_prompt}
            self._wording = Wording(Prompt("{{ system_prompt }}", self.where, constants=text))

    def take_prompt(self, files: PromptFiles) -> None:
        """Find its prompt among the files; one that only the registry has comes with the run."""
        if self.stored is not None and (file := files.find(self.stored.name)) is not None:
            self._wording = file.wording

    def _worded(self) -> Wording:
        run = current_run()
        replayed = run.plan is not None and self.key in run.plan.prompts
        if self.stored is None or replayed:
            return super()._worded()
        if (pinned := run.prompts.get(self.stored.key)) is not None:
            return pinned
        if self._wording is not None:
            return self._wording
        label = "without a label" if self.stored.label is None else f"at {self.stored.label!r}"
        raise PromptError(
            f"{self.where}: there is no prompt {self.stored.name!r} {label}",
            hint="set the label with holdfast prompts, or write name@label",
        )

    def instructions(self, turn: Turn) -> Asked:
        """The system message out of the prompt and the settings; none when both are empty."""
        asked = self._worded().asked(State(turn["event"], {}))
        fixed = all(prompt.fixed for prompt in self._worded().prompts)
        texts = [str(message.text) for message in asked.messages]
        language = self.settings.answer_language
        if language is not None:
            texts.append(THEIR_LANGUAGE if language == USER_LANGUAGE else f"Answer in {language}.")
        if not self.settings.markdown:
            texts.append(PLAIN_TEXT)
        text = "\n\n".join(one.strip() for one in texts if one.strip())
        messages: list[BaseMessage] = [SystemMessage(text)] if text else []
        return Asked(messages, int(fixed and bool(text)), asked.pin)


class AgentNode(AskingNode):
    """Asks the agent's model, which answers or calls tools."""

    def __init__(self, name: str, *, tools: Sequence[BaseTool], **declared: Any) -> None:
        super().__init__(name, **declared)
        self.tools = tools
        self.known = frozenset(tool.name for tool in tools)
        self.quiet = self.settings.critique is not None and name == AGENT

    async def turn(self, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """One answer of the model's, mended; `revise` begins with what the critic said.

        Where a draft stands already, what fails afterwards leaves it standing.
        """
        step = step_of(config)
        said: list[BaseMessage] = []
        if self.name == REVISE:
            remarks = "\n".join(f"- {one}" for one in turn["results"][CRITIQUE]["remarks"])
            said.append(HumanMessage(REMARKS.format(remarks=remarks or "- it is not good enough")))
        try:
            reply, broken, asked = await self._reply(turn, said, config, step)
        except (GraphBubbleUp, ReplayMismatch):
            raise
        except Exception as error:
            if draft(turn["messages"]) is None:
                raise
            step.fail(error)
            return {"results": {self.name: Failure.of(self.name, error)}}
        refused = [refusal(one.call, one.why) for one in broken]
        return {
            "results": {self.name: message_fields(reply)},
            "messages": [*said, reply, *refused],
            "asked": asked,
        }

    async def _reply(
        self, turn: Turn, said: Sequence[BaseMessage], config: RunnableConfig, step: StepHandle
    ) -> tuple[AIMessage, list[Broken], int]:
        limit = self.settings.limits.steps
        asked = self.instructions(turn)
        step.uses_prompt(asked.pin)
        messages = [
            *asked.messages,
            *earlier(turn["results"].get(RECALL)),
            *turn["messages"],
            *said,
        ]
        chat = self._chat(State(turn["event"], {}), step)
        for nth in (1, 2):
            left = limit - turn["asked"] - nth
            if left < 0:
                raise self._too_many()
            reply = await self._ask_once(chat, Asked(messages, asked.static, asked.pin), config)
            reply, broken = mended(reply, self.known)
            if reply.tool_calls:
                if left == 0:  # nothing could be made of the results: no call is made
                    raise self._too_many()
                return reply, broken, nth
            if str(reply.text).strip():
                return reply, broken, nth
            messages = [*messages, HumanMessage(ANSWER_NOW)]
        raise AnswerInvalid(
            f"{self.where}: the model gave neither an answer nor a call",
            error_class="permanent",
            hint="look at the attempts' raw responses; max_tokens may be too low",
        )

    async def _ask_once(self, chat: ChatModel, asked: Asked, config: RunnableConfig) -> AIMessage:
        options = chat.options(operation=self.name, mark=self._mark(asked))
        model: Any = chat.model.bind_tools(self.tools) if self.tools else chat.model
        async with self._credits(chat) as charge:
            with silent(self.quiet):
                reply = await model.ainvoke(asked.messages, config, **options)
            charge()
        return reply

    def _too_many(self) -> LoopExceeded:
        limit = self.settings.limits.steps
        return LoopExceeded(
            f"{self.where}: a turn may ask models {limit} times, and more would be needed",
            hint="raise limits.steps",
        )

    def sources(self) -> list[object]:
        """None but the tools', which the agent names."""
        return []


class CritiqueNode(AskingNode):
    """Asks the critic for a verdict; what keeps it from one lets the draft pass."""

    def __init__(self, *, critique: Critique, **declared: Any) -> None:
        super().__init__(CRITIQUE, answer=Verdict, **declared)
        self._critique = critique

    async def turn(self, turn: Turn, config: RunnableConfig) -> dict[str, Any]:
        """The verdict; recorded as failed, and the draft stands, where there is none."""
        step = step_of(config)
        step.uses_prompt(None)
        counts = {"asked": 1, "rounds": 1}
        text = "\n\n".join(one for one in (CRITIC, self._critique.instructions.strip()) if one)
        messages: list[BaseMessage] = [SystemMessage(text), HumanMessage(_case(turn))]
        state = State(turn["event"], {})
        try:
            with silent(hush=True):
                verdict = await self._ask(
                    Verdict,
                    self._chat(state, step),
                    Asked(messages, 1, None),
                    state,
                    config,
                )
        except (GraphBubbleUp, ReplayMismatch):
            raise
        except Exception as error:  # noqa: BLE001 - told on the record; the draft stands
            step.fail(error)
            return {"results": {CRITIQUE: Failure.of(CRITIQUE, error)}, **counts}
        return {"results": {CRITIQUE: verdict.model_dump()}, **counts}


def _case(turn: Turn) -> str:
    """What the critic gets to see: the question, what tools said, the answer."""
    parts = [f"The question:\n{turn['event'].text}"]
    parts += [
        f"Tool {message.name} said:\n{str(message.text)[:SHOWN_CHARS]}"
        for message in turn["messages"]
        if isinstance(message, ToolMessage)
    ]
    answer = draft(turn["messages"])
    parts.append(f"The answer:\n{'' if answer is None else answer.text}")
    return "\n\n".join(parts)


@contextmanager
def silent(hush: bool) -> Generator[None]:
    """Keep what a model says from those who follow the run, where it is not the answer."""
    if not hush:
        yield
        return
    token = held_back.set(True)
    try:
        yield
    finally:
        held_back.reset(token)
