"""The simple agent: recall → agent → tools → agent → …, and a critic before the end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from holdfast.errors import BudgetExceeded, NoResult, ReplayMismatch
from holdfast.llm.scripted import Script
from holdfast.pipelines.base import AnyGraph
from holdfast.pipelines.prompt_files import PromptFiles
from holdfast.pipelines.state import Failure, State
from holdfast.pipelines.wording import Stored
from holdfast.recording.handler import HIDDEN_TAG
from holdfast.recording.messages import message_fields

from .asking import AgentNode, CritiqueNode
from .calls import open_calls, refusal, told
from .config import SimpleSettings
from .declaration import AgentDeclaration
from .loading import load_callable
from .recall import Recall
from .schemas import TurnData
from .tools import ask_human
from .tools.base import AgentTool, UnknownTool, as_text
from .tools.knowledge import name_of
from .tools.registry import make_tools
from .turn import AGENT, CRITIQUE, GATHER, RECALL, REVISE, TOOLS, OneCall, Turn, begin, draft

Step = Callable[..., Coroutine[Any, Any, Any]]
"""What LangGraph calls for a node."""

NO_MORE = (
    "no further tool is called in this turn, {limit} calls were made; answer with what you have"
)


class SimpleAgent(AgentDeclaration):
    """An agent that Holdfast builds from its settings."""

    @property
    def settings(self) -> SimpleSettings:
        """Of its configuration."""
        assert self.config.simple is not None  # noqa: S101 - what makes it one
        return self.config.simple.settings

    @property
    def speaks(self) -> frozenset[str]:
        """Drafts that a critic may send back, and the critic, are silent."""
        return frozenset({AGENT} if self.settings.critique is None else {REVISE})

    @property
    def long_term(self) -> bool:
        """As its memory is configured."""
        return self.settings.memory.long_term

    @property
    def may_halt(self) -> bool:
        """Whether it may ask a person."""
        return self.settings.asks_people

    def kept(self) -> Iterable[type[Any]]:
        """What its checkpoints may hold besides messages."""
        return [TurnData, Failure]

    def check(self) -> None:
        """Import what the configuration names, and build the graph.

        Raises:
            DeclarationError: something cannot be imported, or is no tool.
        """
        self.graph()

    def check_answer(self, name: str, answer: Any) -> None:
        """Hold a person's answer against what is asked for.

        Raises:
            InvalidInput: it is no text.
        """
        del name
        ask_human.check_answer(self.title, answer)

    def find_prompts(self, files: PromptFiles) -> None:
        """Files may hold the prompt; without one it comes from the registry with each run."""
        self.prompt_files = files

    def stored_prompts(self) -> Sequence[Stored]:
        """The prompt of the registry, where it has one."""
        stored = self.settings.stored
        return [] if stored is None else [stored]

    def initial(self, event: TurnData) -> Turn:
        """A turn that knows nothing of others."""
        return begin(event)

    def result(self, final: Mapping[str, Any]) -> dict[str, Any]:
        """The answer, and how many tokens it is, about.

        Raises:
            NoResult: the run ended without one.
        """
        answer = draft(final["messages"])
        if answer is None:
            raise NoResult(f"{self.where}: the turn ended without an answer")
        text = str(answer.text)
        return {"response": text, "tokens": tokens_of(text)}

    def failures(self, final: Mapping[str, Any]) -> list[Any]:
        """What failed after there was an answer: the critic, or a second version."""
        return State(final["event"], final["results"]).failures

    @cached_property
    def tools(self) -> dict[str, AgentTool]:
        """Imported when first asked for.

        Raises:
            DeclarationError: one cannot be made.
        """
        return make_tools(self.settings, self.where)

    @cached_property
    def _script(self) -> Script | None:
        path = self.settings.rules
        return None if path is None else load_callable(path, f"{self.where}: simple.settings.rules")

    def sources(self) -> Sequence[object]:
        """Its tools' and its rules', once they are imported."""
        made: dict[str, AgentTool] = self.__dict__.get("tools", {})
        found = [tool.source for tool in made.values() if tool.source is not None]
        script = self.__dict__.get("_script")
        return [*found, *([] if script is None else [script])]

    def graph(self) -> AnyGraph:
        """The compiled graph, made once.

        Raises:
            DeclarationError: as `check`.
        """
        return self._graph

    @cached_property
    def _graph(self) -> AnyGraph:
        settings, tools = self.settings, self.tools
        builder: StateGraph[Any, Any, Any, Any] = StateGraph(Turn)
        recall = Recall(settings.memory, self.version)
        builder.add_node(RECALL, cast("Step", recall.run), metadata=recall.metadata)
        names = [AGENT] if settings.critique is None else [AGENT, REVISE]
        for name in names:
            self._add_agent(builder, name, tools)
        if tools:
            ours = {"holdfast_kind": "node", "holdfast_version": self.version}
            builder.add_node(TOOLS, cast("Step", Calling(tools).run), metadata=ours)
            builder.add_node(GATHER, cast("Step", self._gather), destinations=(TOOLS, AGENT))
            builder.add_edge(TOOLS, GATHER)
        if settings.critique is not None:
            self._add_critic(builder)
        builder.add_edge(START, RECALL)
        builder.add_edge(RECALL, AGENT)
        compiled = builder.compile(name=self.title)
        if tools:
            compiled.nodes[GATHER].tags = [HIDDEN_TAG]  # it only says what comes next
        # Recall, and for each answer of a model the tools one by one at worst.
        limits = settings.limits
        supersteps = 4 * limits.steps + 2 * limits.tool_calls + 10
        return compiled.with_config(recursion_limit=supersteps)

    def _declared(self) -> dict[str, Any]:
        return {
            "agent": self.name,
            "version": self.version,
            "settings": self.settings,
            "script": self._script,
            "where": self.where,
        }

    def _add_agent(
        self, builder: StateGraph[Any, Any, Any, Any], name: str, tools: Mapping[str, AgentTool]
    ) -> None:
        node = AgentNode(
            name,
            tools=[one.tool for one in tools.values()],
            alias=self.settings.alias,
            **self._declared(),
        )
        if self.prompt_files is not None:
            node.take_prompt(self.prompt_files)

        async def ask(turn: Turn, config: RunnableConfig) -> Command[Any]:
            left = await node.turn(turn, config)
            return Command(update=left, goto=self._after_asking(turn, left))

        wanted = [AGENT] + [TOOLS] * bool(tools) + [CRITIQUE] * bool(self.settings.critique)
        builder.add_node(
            name, cast("Step", ask), metadata=node.metadata, destinations=(*wanted, END)
        )

    def _add_critic(self, builder: StateGraph[Any, Any, Any, Any]) -> None:
        critique = self.settings.critique
        assert critique is not None  # noqa: S101 - asked by the caller
        alias = critique.model or self.settings.alias
        node = CritiqueNode(critique=critique, alias=alias, **self._declared())

        async def judge(turn: Turn, config: RunnableConfig) -> Command[Any]:
            left = await node.turn(turn, config)
            return Command(update=left, goto=self._after_critique(turn, left))

        builder.add_node(
            CRITIQUE, cast("Step", judge), metadata=node.metadata, destinations=(REVISE, END)
        )

    def _after_asking(self, turn: Turn, left: Mapping[str, Any]) -> Any:
        """What follows an answer: its calls, the critic, or the end."""
        new: list[BaseMessage] = left.get("messages", [])
        if not new:  # it failed, and a draft stands
            return END
        messages = [*turn["messages"], *new]
        reply = next(one for one in reversed(new) if isinstance(one, AIMessage))
        if reply.tool_calls:
            return self._calls(messages, turn["called"]) or AGENT
        critique, asked = self.settings.critique, turn["asked"] + left["asked"]
        if critique is None or turn["rounds"] >= critique.rounds:
            return END
        # Without a step left for another version a verdict would lead to nothing.
        return CRITIQUE if asked + 1 < self.settings.limits.steps else END

    def _after_critique(self, turn: Turn, left: Mapping[str, Any]) -> str:
        verdict = left["results"][CRITIQUE]
        del turn
        return END if isinstance(verdict, Failure) or verdict["verdict"] == "accept" else REVISE

    async def _gather(self, turn: Turn) -> Command[Any]:
        """After calls: those that were not to run beside them, or the agent again."""
        return Command(goto=self._calls(turn["messages"], turn["called"]) or AGENT)

    def _calls(self, messages: Sequence[BaseMessage], called: int) -> list[Send]:
        """The calls to be made next: all that may run side by side, else one."""
        left = open_calls(messages)
        together = [call for call in left if self._runs_beside(call["name"])]
        limit = self.settings.limits.tool_calls
        sent: list[Send] = []
        for nth, call in enumerate(together or left[:1]):
            refused = None if called + nth < limit else NO_MORE.format(limit=limit)
            sent.append(Send(TOOLS, OneCall(call=call, refused=refused)))
        return sent

    def _runs_beside(self, name: str) -> bool:
        tool = self.tools.get(name)
        return tool is None or tool.parallel

    def describe(self) -> dict[str, Any]:
        """Nodes and edges out of the configuration alone."""
        settings = self.settings
        tools = [tool.path if tool.type == "function" else tool.type for tool in settings.tools]
        tools += [name_of(one.collection) for one in settings.knowledge]
        model = {"kind": "model", "version": self.version, "alias": settings.alias}
        nodes: list[dict[str, Any]] = [
            {"name": "__start__", "kind": "start"},
            {"name": RECALL, "kind": "node", "version": self.version},
            {"name": AGENT, **model},
        ]
        edges = [("__start__", RECALL, ""), (RECALL, AGENT, "")]
        if tools:
            nodes.append({"name": TOOLS, "kind": "node", "version": self.version, "tools": tools})
            edges += [(AGENT, TOOLS, "calls"), (TOOLS, AGENT, "")]
        if settings.critique is None:
            edges.append((AGENT, "__end__", "answers"))
        else:
            critic = {**model, "alias": settings.critique.model or settings.alias}
            nodes += [{"name": CRITIQUE, **critic}, {"name": REVISE, **model}]
            edges += [
                (AGENT, CRITIQUE, "answers"),
                (CRITIQUE, REVISE, "revise"),
                (REVISE, CRITIQUE, "answers"),
                (CRITIQUE, "__end__", "accept"),
            ]
            edges += [(REVISE, TOOLS, "calls")] if tools else []
        nodes.append({"name": "__end__", "kind": "end"})
        return {
            "nodes": nodes,
            "edges": [
                {"from": start, "to": end, **({"label": label} if label else {})}
                for start, end, label in edges
            ],
        }


class Calling:
    """The tools node: makes one call, and answers it whatever comes of it."""

    def __init__(self, tools: Mapping[str, AgentTool]) -> None:
        self._tools = tools

    async def run(self, one: Any, config: RunnableConfig) -> dict[str, Any]:
        """The call's result as a message; an error is one that the model can read.

        Raises:
            BudgetExceeded: nothing more may be spent, whatever the model would say to it.
        """
        sent = cast("OneCall", one)
        call = sent["call"]
        if sent["refused"] is not None:
            message, called = refusal(call, sent["refused"]), 0
        else:
            message, called = await self._call(call, config), 1
        results = {TOOLS: message_fields(message)}
        return {"results": results, "messages": [message], "called": called}

    async def _call(self, call: Any, config: RunnableConfig) -> ToolMessage:
        known = self._tools.get(call["name"])
        tool = (
            UnknownTool(name=call["name"] or "unnamed", known=tuple(sorted(self._tools)))
            if known is None
            else known.tool
        )
        try:
            said: Any = await tool.ainvoke(call, config)
        except (GraphBubbleUp, BudgetExceeded, ReplayMismatch):
            raise
        except Exception as error:  # noqa: BLE001 - it is on record as failed, and the model is told
            return refusal(call, told(error))
        if not isinstance(said, ToolMessage):
            return ToolMessage(as_text(said), tool_call_id=call["id"], name=call["name"])
        if isinstance(said.content, str):
            return said.model_copy(update={"content": as_text(said.content)})
        return said


def tokens_of(text: str) -> int:
    """How many tokens a text is, by estimate."""
    return count_tokens_approximately([AIMessage(text)])
