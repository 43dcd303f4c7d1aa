"""`Pipeline`: nodes, routes and groups declared in Python, compiled to LangGraph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, Unpack, overload

import orjson
from langgraph.graph import END as END  # noqa: PLC0414 - part of the public face
from pydantic import BaseModel

from holdfast.llm.aliases import ModelChange
from holdfast.llm.scripted import Script

from .base import AnyGraph, Declaration, DeclarationOptions
from .budget import check_budget
from .fingerprint import calling_module, fingerprint, folder_of
from .include import Included, refuse_circles
from .joining import Target
from .knowledge import KnowledgeNode
from .mapping import Map, Over
from .model import ModelNode
from .nodes import FunctionNode, callable_of, name_of
from .parallel import Parallel
from .policy import PolicyOptions
from .prompt_files import FOLDER, PromptFiles
from .schemas import validate_model
from .searching import Searching
from .state import Failure, State
from .waiting import AskNode
from .wording import Stored

R = TypeVar("R")
A = TypeVar("A", bound=BaseModel)


class NodeDecorator(Protocol):
    """What `@p.node(…)` with options gives: it makes a node of the function below it."""

    @overload
    def __call__(self, fn: type[Any], /) -> FunctionNode[Any]: ...
    @overload
    def __call__(self, fn: Callable[[State], Awaitable[R]], /) -> FunctionNode[R]: ...
    @overload
    def __call__(self, fn: Callable[[State], R], /) -> FunctionNode[R]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Declare the node."""
        ...


class Pipeline(Searching):
    """A graph declared node by node.

    It is sealed by its first use (or by `check`): then the wiring is proven and compiled once.
    An execution's output is the result of the last node that did not fail, or what `output` makes
    of the final state.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str,
        event: type[BaseModel],
        scripted: Script | None = None,
        output: Callable[[State], Any] | None = None,
        models: Mapping[str, str | Mapping[str, Any]] | None = None,
        checks: Sequence[Mapping[str, Any]] = (),
        **options: Unpack[DeclarationOptions],
    ) -> None:
        """Declare an empty pipeline.

        Args:
            name: dotted name that events are addressed to.
            version: the author's own; recorded with every execution.
            event: schema of the events' data; fields it does not name are refused.
            scripted: rules that answer where a model alias is scripted, not a real model.
            output: makes the execution's output of the final state.
            models: what its nodes mean by a model alias, where that is not just the settings'
                alias of that name: another one's name, or any of `alias` (of the settings),
                `parameters`, `fallbacks`, `retries`, `backoff`, `time_limit_s` and
                `response_cache_s`.
            checks: content checks of all its model nodes, see `model`.
            **options: `description`, `deadline`, `priority`, `retries`, `max_running` and
                `retention`; see `Declaration`.

        Raises:
            DeclarationError: the name, version or an option cannot be used.
        """
        super().__init__(name, version=version, **options)
        self._event = event
        self._scripted = scripted
        self._checks = checks
        self._output = output
        self._models = {
            alias: ModelChange.of(spec, f"pipeline {name}: models, {alias!r}")
            for alias, spec in (models or {}).items()
        }
        self._module = calling_module()

    @overload
    def node(self, target: type[Any], /) -> FunctionNode[Any]: ...
    @overload
    def node(self, target: Callable[[State], Awaitable[R]], /) -> FunctionNode[R]: ...
    @overload
    def node(self, target: Callable[[State], R], /) -> FunctionNode[R]: ...
    @overload
    def node(
        self,
        target: str | None = None,
        /,
        *,
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> NodeDecorator: ...
    @overload
    def node(
        self,
        target: str,
        fn: type[Any],
        /,
        *,
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> FunctionNode[Any]: ...
    @overload
    def node(
        self,
        target: str,
        fn: Callable[[State], Awaitable[R]],
        /,
        *,
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> FunctionNode[R]: ...
    @overload
    def node(
        self,
        target: str,
        fn: Callable[[State], R],
        /,
        *,
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> FunctionNode[R]: ...
    def node(
        self,
        target: Any = None,
        fn: Any = None,
        /,
        *,
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> Any:
        """Declare a node: `@p.node`, `@p.node("name", retries=2)` or `p.node("name", function)`.

        Functions and objects that can be called, sync (run in a thread) or async, with the
        `State` as their one argument; a class is made once. Raising `Skip` skips the step.

        Args:
            target: the function, or the node's name when it shall be another than the function's.
            fn: the function, object or class.
            version: recorded with its steps; the pipeline's by default.
            **policy: every kind of node takes these.

                `timeout`: seconds for one try. Sync code cannot be stopped: its try is recorded as
                `abandoned`, its result discarded, and it is not tried again.
                `total_timeout`: seconds for all tries and the pauses between them.
                `retries`: further tries after the first. Temporary errors and rate limits are
                worth one (see `llm.failures.classify`), and those of `retry_on`.
                `backoff`: the pauses, a `Backoff`. A provider's `Retry-After` is honoured.
                `retry_on`: exception classes of your own that are worth another try.
                `on_failure`: `"abort"` ends the execution; `"continue"` goes on without a result
                (who asks for it gets `NoResult`), and the execution ends `partial`; a node, or its
                name, stands in: it runs as a step below this one's, and its result counts as this
                one's.
                `concurrency`: how many tries may run at once in one process, whatever the
                executions; others wait.
                `cache`: seconds, or a `Cache`: a result is used again for the same input, and
                the step recorded as skipped, at no cost.

        Raises:
            DeclarationError: the name is taken or unusable, an option has no sense, or nothing
                can be called.
        """
        if target is not None and not isinstance(target, str):
            return self._function(name_of(target), target, version, policy)
        if fn is not None:
            return self._function(name_of(fn) if target is None else target, fn, version, policy)

        def declare(fn: Any) -> FunctionNode[Any]:
            return self._function(name_of(fn) if target is None else target, fn, version, policy)

        return declare

    @overload
    def model(
        self,
        name: str,
        *,
        prompt: str | Stored,
        system: str | None = None,
        alias: str = "standard",
        answer: type[A],
        tries: int = 3,
        credits: int = 0,
        parameters: Mapping[str, Any] | None = None,
        checks: Sequence[Mapping[str, Any]] = (),
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> ModelNode[A]: ...
    @overload
    def model(
        self,
        name: str,
        *,
        prompt: str | Stored,
        system: str | None = None,
        alias: str = "standard",
        answer: None = None,
        tries: int = 3,
        credits: int = 0,
        parameters: Mapping[str, Any] | None = None,
        checks: Sequence[Mapping[str, Any]] = (),
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> ModelNode[str]: ...
    def model(
        self,
        name: str,
        *,
        prompt: str | Stored,
        system: str | None = None,
        alias: str = "standard",
        answer: type[BaseModel] | None = None,
        tries: int = 3,
        credits: int = 0,  # noqa: A002 - the record's own word
        parameters: Mapping[str, Any] | None = None,
        checks: Sequence[Mapping[str, Any]] = (),
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> ModelNode[Any]:
        """Declare a node that asks a chat model.

        Args:
            name: of the node.
            prompt: Jinja2 template of the user message; its variables are `event`, `results`,
                and each finished node by name. Or a prompt of the registry, see `stored`.
            system: template of the system message.
            alias: which model, as the pipeline's `models` or the settings name it.
            answer: pydantic schema the answer must fit; its validators see the `State` as
                `info.context`. Without it the result is the text.
            tries: how often to ask until an answer fits; each try is recorded.
            credits: charged for an accepted answer.
            parameters: of the model, over those of the alias.
            checks: content checks that redact or refuse, besides the pipeline's and those of the
                settings; see docs/checks.md.
            version: recorded with its steps; the pipeline's by default.
            **policy: see `node`. A try is the whole asking, `tries` included.

        Raises:
            DeclarationError: a template's syntax, the name or a number is wrong.
        """
        return self._add(
            ModelNode(
                name,
                pipeline=self.name,
                version=version or self.version,
                prompt=prompt,
                system=system,
                alias=alias,
                answer=answer,
                tries=tries,
                credits=credits,
                models=self._models,
                parameters=parameters,
                script=self._scripted,
                checks=[*self._checks, *checks],
                policy=policy,
            )
        )

    def parallel(
        self, name: str, branches: Sequence[Target], **policy: Unpack[PolicyOptions]
    ) -> Parallel:
        """Declare a group of nodes that run side by side.

        `state.judge` has the branches' results as attributes; each is a result of its own, too.

        Args:
            name: of the group, which is a node like any other.
            branches: nodes declared before; from now on they run in this group only.
            **policy: see `node`; a retry runs all branches again. `on_failure="abort"` ends the
                execution with one error that names the failed branches, once all have ended;
                `"continue"` goes on without them, and the execution ends `partial`.

        Raises:
            DeclarationError: a branch is unknown or belongs to another group.
        """
        members = [self._branch(name, branch) for branch in branches]
        if len({member.name for member in members}) != len(members) or not members:
            raise self._wiring.error(f'group "{name}" needs branches, each of them once')
        group = self._add(
            Parallel(name, members, pipeline=self.name, version=self.version, policy=policy)
        )
        self._wiring.groups.update({member.name: name for member in members})
        return group

    def map(
        self,
        name: str,
        node: Target,
        *,
        over: Over,
        at_once: int = 8,
        **policy: Unpack[PolicyOptions],
    ) -> Map:
        """Declare a node that runs another once for each item of a list.

        In there `state.item` and `state.index` are the item and its place. The result is the list
        of outcomes in the order of the items.

        Args:
            name: of the map, which is a node like any other.
            node: declared before; from now on it runs in this map only.
            over: gives the list, out of the `State`; at most 1000 items.
            at_once: how many items are worked on side by side.
            **policy: see `node`. `on_failure="abort"` ends the execution with one error that names
                the failed items, once all have ended; `"continue"` keeps each `Failure` in its
                place, and the execution ends `partial`.

        Raises:
            DeclarationError: the node is unknown or belongs to another group.
        """
        member = self._branch(name, node)
        made = self._add(
            Map(
                name,
                member,
                over=over,
                at_once=at_once,
                pipeline=self.name,
                version=self.version,
                policy=policy,
            )
        )
        self._wiring.groups[member.name] = name
        return made

    def include(
        self,
        name: str,
        other: Declaration,
        *,
        input: Callable[[State], Any],  # noqa: A002 - the record's own word
        **policy: Unpack[PolicyOptions],
    ) -> Included:
        """Declare a node that runs another pipeline, or a registered graph, inside this execution.

        Its steps stand below the node's own; the result is that pipeline's output.

        Args:
            name: of the node.
            other: the pipeline; its deadline, if it has one, is the node's timeout by default.
            input: makes that pipeline's event out of the `State`: a model or plain data.
            **policy: see `node`.

        Raises:
            DeclarationError: the name is taken or unusable.
        """
        return self._add(
            Included(
                name,
                other,
                given=input,
                pipeline=self.name,
                version=self.version,
                policy=policy,
            )
        )

    def asked_aliases(self) -> Mapping[str, str]:
        """See `Declaration.asked_aliases`."""
        found: dict[str, str] = {}
        for alias, change in self._models.items():
            for name in change.names(alias):
                found.setdefault(name, change.where)
        for node in self._wiring.nodes.values():
            if isinstance(node, ModelNode) and node.alias not in self._models:
                found.setdefault(node.alias, f'pipeline {self.name}: node "{node.name}"')
        for other in self.included():
            found = {**other.asked_aliases(), **found}
        return found

    def check(self) -> None:
        """Seal the pipeline: prove its wiring and its prompts, and compile it.

        Raises:
            DeclarationError: the first fault found, with the node's name.
        """
        self.graph()

    def graph(self) -> AnyGraph:
        """The compiled graph, made once; nothing can be declared afterwards.

        Raises:
            DeclarationError: as `check`.
        """
        if self._compiled is None:
            self._wiring.check()
            refuse_circles(self)
            if self.budget is not None:
                check_budget(self.budget, f"pipeline {self.name}")
            self._check_retries()
            for other in self.included():
                other.check()
                if other.budget is not None:
                    raise self._wiring.error(
                        f"it includes {other.name}, whose budget nobody would keep in there",
                        hint="give the budget to the pipeline that includes it",
                    )
            for node in self._wiring.nodes.values():
                if isinstance(node, ModelNode):
                    node.take_prompt(self._prompt_files())
                    node.check_prompt(self._wiring.nodes)
                if isinstance(node, KnowledgeNode):
                    for prompt in node.prompts:
                        prompt.check(self._wiring.nodes)
                if isinstance(node, AskNode):
                    node.check_question(self._wiring.nodes)
                if node.policy.fallback is not None:
                    node.stand_in = self._wiring.nodes[node.policy.fallback]
                if node.policy.cache is not None:
                    node.code_version = self.code_version
            self._compiled = self._wiring.compile()
        return self._compiled

    def _prompt_files(self) -> PromptFiles:
        """Where its prompts are looked for; outside of a hub only beside its own module."""
        if self.prompt_files is None:
            folder = self.prompt_folder
            self.prompt_files = PromptFiles([] if folder is None else [folder])
        return self.prompt_files

    @property
    def prompt_folder(self) -> Path | None:
        """See `Declaration.prompt_folder`."""
        folder = folder_of(self._module)
        return None if folder is None else folder / FOLDER

    def validate(self, data: Any) -> BaseModel:
        """Decoded JSON as an instance of the event schema.

        Raises:
            InvalidInput: with each wrong or unknown field.
        """
        return validate_model(self._event, data, self.name)

    def schema(self) -> dict[str, Any]:
        """JSON schema of the event's data."""
        return self._event.model_json_schema()

    def initial(self, event: Any) -> dict[str, Any]:
        """The graph's input for a validated event."""
        return {"event": event, "results": {}}

    def result(self, final: Mapping[str, Any]) -> Any:
        """What `output` makes of the final state, or the last node's result."""
        if self._output is not None:
            return self._output(State(final["event"], final["results"]))
        finished = reversed(final["results"].items())
        results = (
            result
            for name, result in finished
            if name in self._wiring.nodes and not isinstance(result, Failure)
        )
        return next(results, None)

    def _event_hints(self) -> list[Any]:
        return [self._event]

    def failures(self, final: Mapping[str, Any]) -> list[Any]:
        """Nodes that failed and were allowed to."""
        return State(final["event"], final["results"]).failures

    def included(self) -> Sequence[Declaration]:
        """The pipelines and graphs that nodes of this one run."""
        return [node.other for node in self._wiring.nodes.values() if isinstance(node, Included)]

    def describe(self) -> dict[str, Any]:
        """Nodes and edges for drawing; branches name their `group`."""
        return self._wiring.describe()

    def _hash_code(self) -> str:
        """Over the modules that the nodes, rules and schemas come from, and the prompts."""
        wired = self._wiring
        nodes = [*wired.nodes.values(), *wired.routers.values(), *wired.loops.values()]
        included = [other.code_version for other in self.included()]
        worded = [node.wording for node in nodes if isinstance(node, ModelNode)]
        prompts = [prompt.source for one in worded for prompt in one.prompts]
        prompts += [one.pin.hash for one in worded if one.pin is not None]
        changes = [
            change.given.decode()
            for node in nodes
            if isinstance(node, ModelNode) and (change := node.change) is not None
        ]
        objects = [self._event, *(item for node in nodes for item in node.sources())]
        wiring = orjson.dumps(self.describe()).decode()
        return fingerprint(self._module, objects, wiring, *prompts, *changes, *included)

    def _function(
        self, name: str, fn: Any, version: str | None, policy: PolicyOptions
    ) -> FunctionNode[Any]:
        where = f'pipeline {self.name}: node "{name}"'
        return self._add(
            FunctionNode(
                name,
                callable_of(fn, where),
                pipeline=self.name,
                version=version or self.version,
                policy=policy,
            )
        )
