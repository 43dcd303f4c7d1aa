"""What `Client` can do about dead letters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from .answers import given

View = dict[str, Any]

LETTERS = "/api/v1/dead-letters"


class DeadLetters(ABC):
    """Part of `Client`."""

    async def dead_letters_page(self, **filters: Any) -> View:
        """One page of dead letters, newest event first: `items` and `next`.

        Args:
            **filters: `pipeline`, `state` (`dead` or `discarded`), `since` and `until` of the time
                they died, `before`, `limit`.
        """
        return await self._ask("GET", LETTERS, params=given(filters))

    def dead_letters(self, **filters: Any) -> AsyncGenerator[View]:
        """All dead letters, newest event first; pages are fetched as they are needed.

        Args:
            **filters: as for `dead_letters_page`; `limit` is the size of the pages.
        """
        return self._pages(LETTERS, filters)

    async def dead_letter(self, event_id: str) -> View:
        """A dead letter with its data, executions and whole `history`."""
        return await self._ask("GET", _letter(event_id))

    async def edit_dead_letter(self, event_id: str, data: Any) -> View:
        """Replace a dead letter's data; what it was stays in its history.

        Raises:
            InvalidInput: the data does not fit the pipeline's schema.
        """
        return await self._send("PATCH", _letter(event_id), {"data": data})

    async def replay_dead_letter(self, event_id: str) -> View:
        """Queue a dead letter again, its deliveries counted anew."""
        return await self._ask("POST", f"{_letter(event_id)}/replay")

    async def discard_dead_letter(self, event_id: str, reason: str) -> View:
        """Cancel a dead letter for good."""
        return await self._send("POST", f"{_letter(event_id)}/discard", {"reason": reason})

    async def replay_dead_letters(
        self, *, ids: Sequence[str] | None = None, dry_run: bool = False, **filters: Any
    ) -> View:
        """Queue many dead letters again: those named, or those that a filter chooses.

        Args:
            ids: which, at most 1000.
            dry_run: only count them.
            **filters: `pipeline`, `since`, `until`.

        Returns:
            `matched`, `done`, and `refused` with the reasons.
        """
        body = _many(ids, filters, dry_run=dry_run)
        return await self._send("POST", f"{LETTERS}/replay", body)

    async def discard_dead_letters(
        self,
        reason: str,
        *,
        ids: Sequence[str] | None = None,
        dry_run: bool = False,
        **filters: Any,
    ) -> View:
        """Cancel many dead letters for good.

        Args:
            reason: why; kept with each.
            ids: which, at most 1000.
            dry_run: only count them.
            **filters: as of `replay_dead_letters`.

        Returns:
            As `replay_dead_letters`.
        """
        body = {"reason": reason, **_many(ids, filters, dry_run=dry_run)}
        return await self._send("POST", f"{LETTERS}/discard", body)

    async def _send(self, method: str, path: str, body: View) -> View:
        headers = {"content-type": "application/json"}
        return await self._ask(method, path, headers=headers, content=orjson.dumps(body))

    @abstractmethod
    async def _ask(self, method: str, path: str, *, extra_s: float = 0, **rest: Any) -> View: ...

    @abstractmethod
    def _pages(self, path: str, filters: View) -> AsyncGenerator[View]: ...


def _letter(event_id: str) -> str:
    return f"{LETTERS}/{quote(event_id, safe='')}"


def _many(ids: Sequence[str] | None, filters: View, *, dry_run: bool) -> View:
    chosen: View = {"filter": given(filters)} if ids is None else {"ids": list(ids)}
    return {**chosen, "dry_run": dry_run}
