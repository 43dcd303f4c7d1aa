"""How an author lets a pipeline wait, and what its checkpoints may then hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, Unpack, overload

from holdfast.errors import DeclarationError

from .base import Declaration
from .child import ChildNode
from .include import Included
from .joining import Joining
from .kept import kept_types, result_hints
from .knowledge import KnowledgeNode
from .loop import Round
from .mapping import Map
from .model import ModelNode
from .nodes import FunctionNode, Node
from .parallel import Parallel
from .policy import PolicyOptions
from .router import Decision
from .state import Failure, Item, State
from .waiting import AskNode, EventNode, Seconds, SleepNode, WaitingNode
from .wording import Stored

A = TypeVar("A")


class Halting(Joining):
    """A declaration some of whose nodes may wait."""

    @overload
    def ask(
        self,
        name: str,
        *,
        question: str | Callable[[State], Any],
        answer: type[A],
        timeout: Seconds | None = None,
        version: str | None = None,
    ) -> AskNode[A]: ...
    @overload
    def ask(
        self,
        name: str,
        *,
        question: str | Callable[[State], Any],
        answer: Any = Any,
        timeout: Seconds | None = None,
        version: str | None = None,
    ) -> AskNode[Any]: ...
    def ask(
        self,
        name: str,
        *,
        question: str | Callable[[State], Any],
        answer: Any = Any,
        timeout: Seconds | None = None,
        version: str | None = None,
    ) -> AskNode[Any]:
        """Declare a human checkpoint: the execution waits, and holds no runner, for an answer.

        Args:
            name: of the node; its result is the answer.
            question: Jinja2 template as of a model's prompt, or a function of the `State` that
                gives any JSON.
            answer: type the answer must have: a pydantic model, or anything pydantic can check.
            timeout: seconds (or a timedelta) after which the node fails with `WaitExpired`.
            version: recorded with its steps; the pipeline's by default.

        Raises:
            DeclarationError: the name, the template or the timeout is wrong.
        """
        return self._add(
            AskNode(
                name,
                question=question,
                answer=answer,
                timeout=timeout,
                pipeline=self.name,
                version=version or self.version,
            )
        )

    def wait(
        self,
        name: str,
        *,
        seconds: Seconds | None = None,
        until: Callable[[State], datetime] | None = None,
        version: str | None = None,
    ) -> SleepNode:
        """Declare a wait for a time; it holds no runner and survives restarts.

        Args:
            name: of the node.
            seconds: how long (or a timedelta).
            until: instead: a function of the `State` that gives a moment with a time zone.
            version: recorded with its steps; the pipeline's by default.

        Raises:
            DeclarationError: neither or both are given.
        """
        return self._add(
            SleepNode(
                name,
                seconds=seconds,
                until=until,
                pipeline=self.name,
                version=version or self.version,
            )
        )

    def wait_for(
        self,
        name: str,
        *,
        event: str,
        match: str | Callable[[State], str] | None = None,
        timeout: Seconds | None = None,
        version: str | None = None,
    ) -> EventNode:
        """Declare a wait for an event of the same owner; the node's result is its data.

        The event may also run a pipeline of its own. Where no pipeline is called by its type, it
        only answers those who wait, and is refused while nobody does.

        Args:
            name: of the node.
            event: the event's type.
            match: what its subject must be, or a function of the `State` that says so; None for
                any.
            timeout: seconds (or a timedelta) after which the node fails with `WaitExpired`.
            version: recorded with its steps; the pipeline's by default.

        Raises:
            DeclarationError: the type or the timeout is wrong.
        """
        return self._add(
            EventNode(
                name,
                event=event,
                subject=match,
                timeout=timeout,
                pipeline=self.name,
                version=version or self.version,
            )
        )

    def child(
        self,
        name: str,
        pipeline: Declaration | str,
        *,
        input: Callable[[State], Any],  # noqa: A002 - the record's own word
        priority: int | None = None,
        version: str | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> ChildNode:
        """Declare a node that runs another pipeline as an execution of its own, and waits for it.

        The child has its own event, record, deadline and deliveries; this execution waits
        meanwhile and holds no runner. The result is the child's output, as JSON.

        Args:
            name: of the node.
            pipeline: the other one, or its name; an app of the hub must declare it.
            input: makes the child's event out of the `State`: a model or plain data. It is checked
                against that pipeline's schema before anything starts.
            priority: of the child's event; that of this execution's event by default.
            version: recorded with its steps; the pipeline's by default.
            **policy: `timeout`, `retries`, `backoff` and `on_failure`, see `node`. Each try is a
                child of its own; one whose time is over is cancelled.

        Raises:
            DeclarationError: the name is taken, or an option has no sense for a child.
        """
        return self._add(
            ChildNode(
                name,
                pipeline,
                given=input,
                priority=priority,
                pipeline=self.name,
                version=version or self.version,
                policy=policy,
            )
        )

    def bind(self, known: Mapping[str, Declaration]) -> None:
        """See `Declaration.bind`."""
        for node in self._nodes():
            if isinstance(node, ChildNode):
                node.bind(known)
        for other in self.included():
            other.bind(known)

    def _check_retries(self) -> None:
        """Refuse to try again what has halted in between: its waits would be met a second time.

        Raises:
            DeclarationError: a group, a map or an included pipeline has retries, and waits inside.
        """
        for node in self._nodes():
            if node.policy.retries and _waits_inside(node):
                raise DeclarationError(
                    f"{node.where}: retries={node.policy.retries} would try again what waits in it",
                    hint="give retries= to the nodes in it",
                )

    @property
    def may_halt(self) -> bool:
        """Whether a node of it, or of what it includes, waits."""
        return any(isinstance(node, WaitingNode) for node in self._nodes()) or any(
            other.may_halt for other in self.included()
        )

    def awaited(self) -> frozenset[str]:
        """Types of events its nodes wait for."""
        return frozenset(node.event for node in self._nodes() if isinstance(node, EventNode)).union(
            *(other.awaited() for other in self.included())
        )

    def check_answer(self, name: str, answer: Any) -> None:
        """See `Declaration.check_answer`."""
        node = self._wiring.nodes.get(name)
        if isinstance(node, AskNode):
            node.check(answer)
            return
        for other in self.included():
            other.check_answer(name, answer)

    def kept(self) -> Iterable[type[Any]]:
        """The event, answers, what functions say they return, and what of ours is in a state."""
        hints: list[Any] = [*self._event_hints(), *self.keeps, Failure, Decision, Round, Item]
        for node in self._nodes():
            if isinstance(node, ModelNode | AskNode):
                hints.append(node.answer)
            elif isinstance(node, KnowledgeNode):
                hints.append(node.kept_type())
            elif isinstance(node, FunctionNode):
                hints += result_hints([node.fn])
        found = kept_types(hints)
        for other in self.included():
            found |= set(other.kept())
        return found

    def _event_hints(self) -> list[Any]:
        """Types of what comes in."""
        return []

    def stored_prompts(self) -> Sequence[Stored]:
        """See `Declaration.stored_prompts`."""
        own = [one.stored for one in self._nodes() if isinstance(one, ModelNode) and one.stored]
        return [*own, *super().stored_prompts()]

    def all_nodes(self) -> list[Node[Any]]:
        """Every node, those inside groups and maps included."""
        return self._nodes()

    def node_names(self) -> list[str]:
        """The names that its prompts may use."""
        return list(self._wiring.nodes)

    def _nodes(self) -> list[Node[Any]]:
        """Every node, those inside groups and maps included."""
        found: list[Node[Any]] = []
        left: list[Node[Any]] = list(self._wiring.nodes.values())
        while left:
            node = left.pop()
            if any(node is one for one in found):
                continue
            found.append(node)
            if isinstance(node, Parallel):
                left += node.branches
            elif isinstance(node, Map):
                left.append(node.node)
        return found


def _waits_inside(node: Node[Any]) -> bool:
    if isinstance(node, Parallel | Map):
        members = node.branches if isinstance(node, Parallel) else (node.node,)
        return any(isinstance(one, WaitingNode) or _waits_inside(one) for one in members)
    return isinstance(node, Included) and node.other.may_halt
