"""Policies: how long a node may take, how often it is tried, and what follows when it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict, cast

from holdfast.domain.redelivery import RETRIED, Backoff
from holdfast.errors import BranchesFailed, BreakerOpen, DeclarationError
from holdfast.llm.failures import Failure, classify

if TYPE_CHECKING:
    from .nodes import Node
    from .state import State

RETRY_AFTER_AT_MOST_S = 300.0
"""A provider that asks to wait longer than this is not waited for: a held slot is worth more."""

ABORT, CONTINUE = "abort", "continue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Keep a node's results and use them again for the same input.

    Attributes:
        ttl: seconds a result may be used.
        key: what counts as the input, out of the `State`; without it the event and all results
            so far, and for a model node the messages it would send.
    """

    ttl: float
    key: Callable[[State], Any] | None = None


class PolicyOptions(TypedDict, total=False):
    """What every kind of node takes; see `Pipeline.node`."""

    timeout: float | None
    total_timeout: float | None
    retries: int
    backoff: Backoff
    retry_on: type[Exception] | Sequence[type[Exception]]
    on_failure: Node[Any] | str
    concurrency: int | None
    cache: float | Cache | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A node's options, proven. The meaning of each is told at `Pipeline.node`."""

    timeout: float | None = None
    total_timeout: float | None = None
    retries: int = 0
    backoff: Backoff = field(default_factory=Backoff)
    retry_on: tuple[type[Exception], ...] = ()
    on_failure: str = ABORT
    concurrency: int | None = None
    cache: Cache | None = None

    @property
    def plain(self) -> bool:
        """Whether a run of the node is just a call."""
        return not (
            self.timeout
            or self.total_timeout
            or self.retries
            or self.concurrency
            or self.cache is not None
        )

    @property
    def records_tries(self) -> bool:
        """Whether each try is worth an attempt of its own on the record."""
        return self.retries > 0 or self.timeout is not None or self.total_timeout is not None

    @property
    def fallback(self) -> str | None:
        """The node that stands in when this one fails."""
        return None if self.on_failure in (ABORT, CONTINUE) else self.on_failure

    def pause_before(self, retry: int, error: Exception, chance: float) -> float | None:
        """Seconds to wait before a retry; None when there is to be none.

        Args:
            retry: its number, from 1.
            error: what the try before ended with.
            chance: a random number from 0 to 1.
        """
        if retry > self.retries or not worth_retrying(error, self.retry_on):
            return None
        pause = self.backoff.pause(retry, chance)
        asked = classify(error).retry_after_s or 0.0
        return None if asked > RETRY_AFTER_AT_MOST_S else max(pause, asked)

    def describe(self) -> dict[str, Any]:
        """What differs from a plain call, for drawings."""
        told: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("timeout", "total_timeout", "retries", "concurrency")
            if getattr(self, name)
        }
        if self.retry_on:
            told["retry_on"] = [kind.__name__ for kind in self.retry_on]
        if self.cache is not None:
            told["cache"] = self.cache.ttl
        if self.on_failure != ABORT:
            told["on_failure"] = self.on_failure
        return told


def worth_retrying(
    error: BaseException, retry_on: tuple[type[Exception], ...], *, later: bool = False
) -> Failure | None:
    """What is known of a failure that may be gone the next time; None for any other.

    Args:
        error: what was raised.
        retry_on: classes that are worth another try besides temporary errors and rate limits.
        later: the next time is another delivery, which holds no slot until then: an open breaker
            that a member of a group met is no reason against it.
    """
    if isinstance(error, retry_on):
        return replace(classify(error), error_class="temporary")
    if isinstance(error, BreakerOpen):  # a held slot is worth more: the event is postponed
        return None
    if isinstance(error, BranchesFailed):  # a group: only if all that failed are
        errors = [one for one in error.errors if not (later and breakers_open(one))]
        all_ = [worth_retrying(one, retry_on, later=later) for one in errors]
        known = [one for one in all_ if one is not None]
        if not known or len(known) < len(all_):
            return None
        return max(known, key=lambda one: one.retry_after_s or 0.0)
    failure = classify(error)
    return failure if failure.error_class in RETRIED else None


def breakers_open(error: BaseException) -> list[BreakerOpen]:
    """The open breakers that alone made something fail; empty when there was another reason too."""
    if isinstance(error, BreakerOpen):
        return [error]
    errors: Sequence[BaseException] = ()
    if isinstance(error, BranchesFailed):
        errors = error.errors
    elif isinstance(error, BaseExceptionGroup):
        errors = cast("BaseExceptionGroup[BaseException]", error).exceptions
    found = [breakers_open(one) for one in errors]
    return [one for each in found for one in each] if all(found) else []


def policy_of(options: PolicyOptions, where: str) -> Policy:
    """A policy out of a node's options.

    Args:
        options: as they were declared.
        where: names the node in errors.

    Raises:
        DeclarationError: an option has a value that cannot be meant.
    """
    given: dict[str, Any] = dict(options)
    if unknown := given.keys() - PolicyOptions.__annotations__.keys():
        raise DeclarationError(
            f"{where}: there is no option {sorted(unknown)[0]!r}",
            hint=f"known: {', '.join(PolicyOptions.__annotations__)}",
        )
    for name in ("timeout", "total_timeout"):
        if given.get(name) is not None and given[name] <= 0:
            raise DeclarationError(f"{where}: {name}={given[name]} leaves no time at all")
    if given.get("retries", 0) < 0:
        raise DeclarationError(f"{where}: retries={given['retries']} is negative")
    if given.get("concurrency") is not None and given["concurrency"] < 1:
        raise DeclarationError(f"{where}: concurrency={given['concurrency']} lets nothing run")
    given["retry_on"] = exception_classes(given.get("retry_on", ()), where)
    given["on_failure"] = _name(given.get("on_failure", ABORT))
    given["cache"] = _cache(given.get("cache"), where)
    return Policy(**given)


def exception_classes(kinds: Any, where: str) -> tuple[type[Exception], ...]:
    """What `retry_on` names.

    Raises:
        DeclarationError: something that is no exception class.
    """
    named: tuple[Any, ...] = (kinds,) if isinstance(kinds, type) else tuple(kinds)
    for kind in named:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise DeclarationError(f"{where}: retry_on names {kind!r}, which is no exception class")
    return named


def _name(target: Any) -> str:
    return target if isinstance(target, str) else target.name


def _cache(given: float | Cache | None, where: str) -> Cache | None:
    cache = given if given is None or isinstance(given, Cache) else Cache(ttl=given)
    if cache is not None and cache.ttl <= 0:
        raise DeclarationError(f"{where}: a cache of {cache.ttl} s keeps nothing")
    return cache
