"""Another try after a failure that may be gone the next time."""

from __future__ import annotations

import random
from typing import Any

from pydantic import SkipValidation
from typing_extensions import override

from holdfast.domain.redelivery import RETRIED, Backoff
from holdfast.errors import BreakerOpen
from holdfast.llm.failures import classify

from .base import AgainChatModel, Failed, Next

RETRY_AFTER_AT_MOST_S = 60.0
"""A provider that asks to wait longer is not waited for here: a fallback or a later delivery is
better than a held slot."""


class RetryChatModel(AgainChatModel):
    """Asks again after temporary errors and rate limits, never after a breaker's refusal."""

    retries: int
    backoff: SkipValidation[Backoff] = Backoff()

    @override
    def _first(self, kwargs: dict[str, Any]) -> Next:
        return Next(model=self.inner, kwargs=kwargs)

    @override
    def _after(self, failed: Failed) -> Next | None:
        error, retry = failed.errors[-1], len(failed.errors)
        if retry > self.retries or isinstance(error, BreakerOpen):
            return None
        failure = classify(error)
        asked = failure.retry_after_s or 0.0
        if failure.error_class not in RETRIED or asked > RETRY_AFTER_AT_MOST_S:
            return None
        pause = self.backoff.pause(retry, random.random())  # noqa: S311 - spreads load
        return Next(model=self.inner, kwargs=failed.kwargs, pause_s=max(pause, asked))
