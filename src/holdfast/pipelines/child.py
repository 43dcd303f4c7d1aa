"""Child executions: another pipeline run on an event of its own, while this execution waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from itertools import count
from typing import Any, ClassVar, cast

import orjson
from langchain_core.runnables import RunnableConfig

from holdfast.domain.events import MAX_EVENT_BYTES
from holdfast.domain.halts import ChildRun, WaitKind
from holdfast.domain.ids import MICROS
from holdfast.domain.payload import encode
from holdfast.errors import ChildFailed, DeclarationError, InvalidInput, WaitExpired
from holdfast.recording import step_of

from .base import MAX_PRIORITY, Declaration
from .context import waits
from .policy import PolicyOptions
from .state import State
from .waiting import WaitingNode, interrupted

POLICY = ("timeout", "retries", "backoff", "on_failure")
"""What has a sense for a child; the rest is its own pipeline's business."""

FINAL = frozenset(
    {"cancelled", "invalid_input", "too_deep", "output_too_large", "output_lost", "bad_declaration"}
)
"""Codes of failures that another try would meet again, or that somebody wanted."""


class ChildNode(WaitingNode[Any]):
    """Starts an execution of another pipeline and waits for what comes of it.

    Its tries are children, each with a record of its own: the node's step has no attempts.
    """

    kind: ClassVar[str] = "child"
    waits_for = WaitKind.CHILD
    awaited = "a child execution"

    def __init__(
        self,
        name: str,
        child: Declaration | str,
        *,
        given: Callable[[State], Any],
        priority: int | None,
        pipeline: str,
        version: str,
        policy: PolicyOptions,
    ) -> None:
        for option in policy:
            if option not in POLICY:
                raise DeclarationError(
                    f'pipeline {pipeline}: node "{name}": a child execution takes no {option}=',
                    hint=f"it takes {', '.join(POLICY)}; the rest is for {_name(child)} to say",
                )
        super().__init__(name, pipeline=pipeline, version=version, policy=policy)
        if priority is not None and not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
            raise DeclarationError(
                f"{self.where}: priority={priority} is not within -{MAX_PRIORITY} to {MAX_PRIORITY}"
            )
        self.child = _name(child)
        self.tries = self.policy
        # A try is not a call within a time: it lasts over halts.
        self.policy = replace(self.policy, timeout=None, retries=0)
        self.given = given
        self.priority = priority
        self._other: Declaration | None = None

    def bind(self, known: Mapping[str, Declaration]) -> None:
        """Find the pipeline to be run.

        Raises:
            DeclarationError: it is not among the known, or a singleton.
        """
        if self.child not in known:
            raise DeclarationError(
                f'{self.where}: there is no pipeline "{self.child}" to run as a child',
                hint="an app of the hub must declare it; known: " + ", ".join(sorted(known)),
            )
        other = known[self.child]
        if other.singleton is not False:
            # Refused beside another it would fail its parent; let in it would be no singleton.
            raise DeclarationError(
                f"{self.where}: {self.child} is a singleton and cannot be a child execution",
                hint="send it an event of its own, or let the parent be the singleton",
            )
        self._other = other

    async def run(self, state: State, config: RunnableConfig) -> Any:
        """Start a child and interrupt; when it has ended, give its output.

        After a resume this runs again from the top: what earlier children brought is given at
        once, and only one that nobody has heard of is started.

        Raises:
            ChildFailed: it brought no result, and neither did the tries after it.
            WaitExpired: its time was over first; it is cancelled.
            InvalidInput: what `input` made does not fit its schema.
        """
        asked = self._asked(state, config)
        after_us, (_, chance) = 0, waits()
        for retry in count(1):
            last = retry > self.tries.retries
            child = replace(asked, after_us=after_us, eager=asked.eager or not last)
            try:
                return self.gives(interrupted(self, {"child": asdict(child), **self.asks(state)}))
            except (ChildFailed, WaitExpired) as error:
                if last or not _worth_retrying(error):
                    raise
            after_us = round(self.tries.backoff.pause(retry, chance()) * MICROS)
        raise AssertionError  # count() has no end

    def asks(self, state: State) -> dict[str, Any]:  # noqa: ARG002 - the contract
        """Until when."""
        timeout = self.tries.timeout
        return {"wake_in": None if timeout is None else round(timeout * MICROS)}

    def gives(self, came: Mapping[str, Any]) -> Any:
        """The child's output.

        Raises:
            ChildFailed: it has none.
        """
        if "output" in came:
            return came["output"]
        error = cast("dict[str, Any]", came["error"])
        who = cast("dict[str, Any]", came.get("child") or {})
        execution_id, status = who.get("execution_id"), who.get("status")
        if status is None:
            told = f"{self.child} was not started: {error['message']}"
        else:
            named = f" {execution_id}" if execution_id is not None else ""
            told = f"child execution{named} of {self.child}: {error['message']}"
        raise ChildFailed(
            f"{self.where}: {told}",
            pipeline=self.child,
            execution_id=execution_id,
            status=status,
            error=error,
            hint=error.get("hint", ""),
        )

    def _asked(self, state: State, config: RunnableConfig) -> ChildRun:
        """What is to be started."""
        if self._other is None:
            raise DeclarationError(
                f'{self.where}: there is no pipeline "{self.child}" to run as a child',
                hint="run it in a hub whose apps declare both",
            )
        data = encode(self.given(state))
        if len(data) > MAX_EVENT_BYTES:
            raise InvalidInput(
                f"{self.where}: input= made {len(data)} bytes of JSON; an event has at most "
                f"{MAX_EVENT_BYTES}"
            )
        self._other.validate(orjson.loads(data))
        ns: str = config.get("configurable", {}).get("checkpoint_ns", "")
        return ChildRun(
            pipeline=self.child,
            target_kind=self._other.kind,
            data=data.decode(),
            priority=self.priority,
            step=step_of(config).number,
            # What runs side by side in one graph goes on together, once all of it has ended.
            group=ns.rpartition("|")[0],
            eager=self.tries.on_failure not in ("abort", "continue"),
        )

    def describe(self) -> dict[str, Any]:
        """Also which pipeline it runs, and how often."""
        told = {**super().describe(), "pipeline": self.child}
        return told | ({"policy": policy} if (policy := self.tries.describe()) else {})

    def sources(self) -> list[object]:
        """The function that makes the input."""
        return [self.given] if hasattr(self.given, "__code__") else []


def _name(child: Declaration | str) -> str:
    return child if isinstance(child, str) else child.name


def _worth_retrying(error: ChildFailed | WaitExpired) -> bool:
    if isinstance(error, WaitExpired):
        return True
    return error.status != "cancelled" and error.error.get("code") not in FINAL
