"""What `Client` can do about usage and budgets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date
from typing import Any
from urllib.parse import quote

import orjson

View = dict[str, Any]

_JSON = {"content-type": "application/json"}


class Money(ABC):
    """Part of `Client`."""

    async def usage(
        self, *, by: str = "day", since: date | None = None, until: date | None = None
    ) -> View:
        """Sums of tokens, dollars and credits: `items`, and `total`.

        Args:
            by: `owner`, `pipeline`, `agent`, `model`, `day` or `alias`.
            since: first day, in UTC.
            until: last day.
        """
        params = {"by": by}
        if since is not None:
            params["since"] = since.isoformat()
        if until is not None:
            params["until"] = until.isoformat()
        return await self._ask("GET", "/api/v1/usage", params=params)

    async def estimate(self, pipeline: str, data: Any) -> View:
        """What one execution may take, and what that is known from.

        Args:
            pipeline: by name.
            data: of its event.
        """
        path = f"/api/v1/pipelines/{quote(pipeline, safe='')}/estimate"
        content = orjson.dumps({"data": data})
        return await self._ask("POST", path, headers=_JSON, content=content)

    async def budgets(self) -> View:
        """All budgets, with what is spent of each: `items`."""
        return await self._ask("GET", "/api/v1/budgets")

    async def set_budget(
        self, scope: str, *, unit: str, amount: str, subject: str = "", period: str = "ever"
    ) -> View:
        """Set a budget, or another amount for the one with the same other words.

        Args:
            scope: `owner`, `pipeline`, `agent`, `session` or `execution`.
            unit: `tokens`, `usd` or `credits`.
            amount: as decimal text.
            subject: a name or a session; `*`: each of them has its own.
            period: `day`, `month` or `ever`.
        """
        body = {
            "scope": scope,
            "subject": subject,
            "period": period,
            "unit": unit,
            "amount": amount,
        }
        content = orjson.dumps(body)
        return await self._ask("PUT", "/api/v1/budgets", headers=_JSON, content=content)

    async def remove_budget(self, budget_id: str) -> View:
        """Remove a budget; what was spent stays in the ledger."""
        return await self._ask("DELETE", f"/api/v1/budgets/{quote(budget_id, safe='')}")

    @abstractmethod
    async def _ask(self, method: str, path: str, *, extra_s: float = 0, **rest: Any) -> View: ...
