"""Staff: whom a dispatcher claims for, and what each of them may get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from holdfast.bus import Notice
from holdfast.domain.events import Claimed
from holdfast.domain.rates import Rate
from holdfast.pipelines.base import Declaration

from .worker import Worker


class Staff(ABC):
    """What a dispatcher needs to know of those that run what it claims.

    Attributes:
        kind: of what is claimed: `pipeline` or `agent`.
        behind_horizon: whether claims may begin where earlier ones have shown the living to be.
        hires_for_left: whether an execution whose worker went between its claim and now gets a
            worker of its own; else it is given back.
        once: names whose events must not begin twice.
        rates: of the names that have one.
    """

    kind: ClassVar[Literal["pipeline", "agent"]]
    behind_horizon: ClassVar[bool]
    hires_for_left: ClassVar[bool]
    once: frozenset[str] = frozenset()
    rates: Mapping[str, Rate] = {}

    @property
    @abstractmethod
    def workers(self) -> Sequence[Worker]:
        """All of them, also those that take nothing now."""

    @abstractmethod
    def versions(self) -> Mapping[str, tuple[str, str]]:
        """What may be claimed now: (graph version, code version) by name."""

    @abstractmethod
    def declared(self, name: str) -> Declaration | None:
        """What is run for it; None when that has gone since the claim."""

    @abstractmethod
    def room(self) -> Mapping[str, int]:
        """How many more may run of each name that is limited."""

    @abstractmethod
    def worker_for(self, claimed: Claimed) -> Worker | None:
        """Who runs it; None when nobody has a free slot for it any more."""

    @abstractmethod
    def suits(self, worker: Worker, claimed: Claimed) -> bool:
        """Whether a worker that was hired for one execution can run this one."""

    @abstractmethod
    def hire_alone(self, suspects: Sequence[Claimed]) -> None:
        """See to it that workers come for executions that must run alone."""

    @abstractmethod
    def concerns(self, notice: Notice) -> bool:
        """Whether something may be claimed after this ring."""

    def between_claims(self) -> None:  # noqa: B027 - most have nothing to change
        """No claim is under way: what versions run may change now."""
