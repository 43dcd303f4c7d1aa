"""What `Client` can do about sessions: conversations and their messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from .answers import given

View = dict[str, Any]

SESSIONS = "/api/v1/sessions"


class Sessions(ABC):
    """Part of `Client`."""

    async def make_session(self, agent: str, **options: Any) -> View:
        """Begin a conversation with an agent.

        Args:
            agent: its id or name.
            **options: `title`, `channel`, `chat_id`, `user`, `metadata`.
        """
        return await self._post(SESSIONS, {"agent": agent, **options})

    async def sessions_page(self, **filters: Any) -> View:
        """One page of sessions, newest first: `items` and `next`.

        Args:
            **filters: `agent` (id or name), `status` (`active`, `archived`), `after`, `limit`.
        """
        return await self._ask("GET", SESSIONS, params=given(filters))

    def sessions(self, **filters: Any) -> AsyncGenerator[View]:
        """All sessions, newest first; pages are fetched as they are needed.

        Args:
            **filters: as for `sessions_page`; `limit` is the size of the pages.
        """
        return self._pages(SESSIONS, filters)

    async def session(self, session_id: str) -> View:
        """A session: whose it is, where it stands, how long it is."""
        return await self._ask("GET", _session(session_id))

    async def change_session(self, session_id: str, **changes: Any) -> View:
        """Rename a session, archive it or take it back.

        Args:
            session_id: which.
            **changes: `title`, `status`, `metadata`.
        """
        content = orjson.dumps(changes)
        headers = {"content-type": "application/json"}
        return await self._ask("PATCH", _session(session_id), headers=headers, content=content)

    async def delete_session(self, session_id: str) -> View:
        """Delete a session with its messages, its executions and what is remembered of it."""
        return await self._ask("DELETE", _session(session_id))

    async def messages_page(self, session_id: str, **filters: Any) -> View:
        """One page of a session's messages, newest first: `items` and `next`.

        Args:
            session_id: which.
            **filters: `before`, `limit`.
        """
        return await self._ask("GET", f"{_session(session_id)}/messages", params=given(filters))

    def messages(self, session_id: str, **filters: Any) -> AsyncGenerator[View]:
        """All messages of a session, newest first; pages are fetched as they are needed.

        Args:
            session_id: which.
            **filters: as for `messages_page`; `limit` is the size of the pages.
        """
        return self._pages(f"{_session(session_id)}/messages", filters)

    async def give_feedback(
        self, session_id: str, message_id: str, feedback: str | None, *, comment: str | None = None
    ) -> View:
        """Say what somebody thinks of an answer.

        Args:
            session_id: whose message it is.
            message_id: which.
            feedback: `like`, `dislike`; None takes it back.
            comment: in words.
        """
        body: Mapping[str, Any] = {"feedback": feedback, "comment": comment}
        path = f"{_session(session_id)}/messages/{quote(message_id, safe='')}/feedback"
        return await self._put(path, dict(body))

    @abstractmethod
    async def _ask(self, method: str, path: str, *, extra_s: float = 0, **rest: Any) -> View: ...

    @abstractmethod
    async def _post(self, path: str, body: View) -> View: ...

    @abstractmethod
    async def _put(self, path: str, body: View) -> View: ...

    @abstractmethod
    def _pages(self, path: str, filters: View) -> AsyncGenerator[View]: ...


def _session(session_id: str) -> str:
    return f"{SESSIONS}/{quote(session_id, safe='')}"
