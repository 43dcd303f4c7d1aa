"""Other models in the place of one that cannot answer now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import SerializeAsAny
from typing_extensions import override

from holdfast.errors import BreakerOpen, BudgetExceeded
from holdfast.llm.failures import classify

from .base import AgainChatModel, Failed, Next, bound_tools

INSTEAD = "holdfast_instead_"
"""Begins the names of bound arguments that hold what the others are given: see `Instead`."""

_FALLS_BACK = frozenset({"temporary", "rate_limit", "budget"})
_NOT_SENT = "ls_structured_output_format"  # told to LangChain's callbacks only


@dataclass(frozen=True, slots=True)
class Instead:
    """What other models are given where the first one is given certain arguments.

    Vendors have their own words for a schema or a tool.
    """

    of: frozenset[str]  # names of the first one's
    others: Sequence[Mapping[str, Any]]


class FallbackChatModel(AgainChatModel):
    """Asks others, in order, when a model is away, limits its callers, or has no credit left.

    What is wrong with the request itself is wrong for them too, and our own budget is spent for
    all.
    """

    others: Sequence[SerializeAsAny[BaseChatModel]]

    @override
    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return super()._get_invocation_params(stop, **_own(kwargs))

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop, **_own(kwargs))

    @override
    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """See `BaseChatModel`; each model is given the tools in its own words."""
        first, *others = (
            bound_tools(model, tools, tool_choice=tool_choice, **kwargs)
            for model in (self.inner, *self.others)
        )
        return self.bind(**with_instead("tools", first, others))

    @override
    def _first(self, kwargs: dict[str, Any]) -> Next:
        return Next(model=self.inner, kwargs=_own(kwargs))

    @override
    def _after(self, failed: Failed) -> Next | None:
        error, other = failed.errors[-1], len(failed.errors) - 1
        if other >= len(self.others) or isinstance(error, BudgetExceeded):
            return None
        if classify(error).error_class not in _FALLS_BACK:
            return None
        return Next(model=self.others[other], kwargs=_of_other(failed.kwargs, other))

    @override
    def _final(self, failed: Failed) -> Exception:
        """The last error; where breakers alone refused, that of the one which may close first."""
        closed = [error for error in failed.errors if isinstance(error, BreakerOpen)]
        if len(closed) < len(failed.errors):
            return failed.errors[-1]
        return min(closed, key=lambda error: (error.until is None, error.until or 0))


def with_instead(
    what: str, first: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Arguments of a first model to be bound, together with those of the others.

    Args:
        what: they are about; arguments about something else are kept apart.
        first: of the model itself.
        others: of each fallback.
    """
    given = [{k: v for k, v in other.items() if k != _NOT_SENT} for other in others]
    return {**first, INSTEAD + what: Instead(frozenset(first), given)}


def _own(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if not name.startswith(INSTEAD)}


def _of_other(kwargs: Mapping[str, Any], other: int) -> dict[str, Any]:
    left, given = _own(kwargs), dict[str, Any]()
    for name, instead in kwargs.items():
        if name.startswith(INSTEAD):
            for own in instead.of:
                left.pop(own, None)
            given |= instead.others[other]
    return left | given
