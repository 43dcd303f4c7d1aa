"""What `Client` can do about agents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import orjson

from holdfast.domain.ids import new_id

from .answers import Entry, Position, given

View = dict[str, Any]

AGENTS = "/api/v1/agents"

ENDS = frozenset({"message", "error", "waiting"})
"""Entries after which a turn says no more by itself."""


class Agents(ABC):
    """Part of `Client`; an agent is named by its id or its name."""

    async def agents_page(self, **filters: Any) -> View:
        """One page of agents, by name: `items` and `next`.

        Args:
            **filters: `after`, `limit`.
        """
        return await self._ask("GET", AGENTS, params=given(filters))

    def agents(self, **filters: Any) -> AsyncGenerator[View]:
        """All agents, by name, each with its process; pages are fetched as they are needed.

        Args:
            **filters: as for `agents_page`; `limit` is the size of the pages.
        """
        return self._pages(AGENTS, filters)

    async def agent(self, agent: str) -> View:
        """An agent as its newest version says, with its process."""
        return await self._ask("GET", _agent(agent))

    async def apply_agent(
        self,
        name: str,
        config: Mapping[str, Any],
        *,
        description: str = "",
        expected: int | None = None,
        dry_run: bool = False,
    ) -> View:
        """Make an agent, or a version of it where it differs from the newest.

        Args:
            name: of the agent.
            config: `{"simple": {"settings": {…}}}` or `{"graph": {"settings": {…}}}`.
            description: for people.
            expected: the version that this one is to follow; another one is a conflict.
            dry_run: only check it, and tell what would come of it.

        Returns:
            The agent, and `change`: `created`, `changed` or `same`.
        """
        body: View = {"description": description, "config": dict(config)}
        if expected is not None:
            body["expected"] = expected
        params = {"dry_run": "true"} if dry_run else None
        headers = {"content-type": "application/json"}
        content = orjson.dumps(body)
        return await self._ask("PUT", _agent(name), params=params, headers=headers, content=content)

    async def delete_agent(self, agent: str) -> View:
        """Delete an agent with its sessions; what waits for it is cancelled."""
        return await self._ask("DELETE", _agent(agent))

    async def start_agent(self, agent: str) -> View:
        """Let an agent answer again: its process, which starts with the next message or now."""
        return await self._ask("POST", f"{_agent(agent)}/start")

    async def stop_agent(self, agent: str) -> View:
        """Let an agent end what it is at and stay down; messages wait for it."""
        return await self._ask("POST", f"{_agent(agent)}/stop")

    async def restart_agent(self, agent: str) -> View:
        """Start an agent's process anew."""
        return await self._ask("POST", f"{_agent(agent)}/restart")

    async def agent_status(self, agent: str) -> View:
        """An agent's process: `status`, `wanted`, since when, how often it died and why."""
        return await self._ask("GET", f"{_agent(agent)}/status")

    async def agent_versions(self, agent: str) -> View:
        """An agent's versions, newest first: `items`."""
        return await self._ask("GET", f"{_agent(agent)}/versions")

    async def diff_agent(self, agent: str, a: int, b: int) -> View:
        """What differs between two versions of an agent: `same`, `parts`."""
        return await self._ask("GET", f"{_agent(agent)}/diff", params={"a": a, "b": b})

    async def roll_back_agent(self, agent: str, version: int | None = None) -> View:
        """Bring back what an older version said, as a new version.

        Args:
            agent: which.
            version: the older one; by default the one before the newest.
        """
        body: View = {} if version is None else {"version": version}
        return await self._post(f"{_agent(agent)}/rollback", body)

    async def agent_logs(
        self, agent: str, *, tail: int | None = None, offset: int | None = None
    ) -> View:
        """What an agent's process wrote: `lines`, and the `offset` from which to read on.

        Args:
            agent: which.
            tail: the newest so many lines.
            offset: what was written since; not together with `tail`.
        """
        params = given({"tail": tail, "offset": offset})
        return await self._ask("GET", f"{_agent(agent)}/logs", params=params)

    async def say(
        self,
        agent: str,
        text: str,
        *,
        session_id: str | None = None,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> View:
        """Send a message to an agent; when this returns, it is kept and will be answered.

        Args:
            agent: which.
            text: what is said.
            session_id: the conversation it belongs to; without it a new one.
            wait: seconds (up to 60) to wait for the answer.
            idempotency_key: the same key and body are the same message.
            **options: `chat_id`, `channel`, `platform_user_id`, `user_data`, `image_urls`.

        Returns:
            `id` (of its event), `session_id`, `message_id`, `agent_status`, and the `answer` if
            there was one in time.
        """
        body: View = {"text": text, **options}
        if session_id is not None:
            body["session_id"] = session_id
        headers = {"content-type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        return await self._ask(
            "POST",
            f"{_agent(agent)}/messages",
            params={} if wait is None else {"wait": wait},
            headers=headers,
            content=orjson.dumps(body),
            extra_s=wait or 0,
        )

    async def talk(
        self, agent: str, text: str, *, session_id: str, **options: Any
    ) -> AsyncGenerator[Entry]:
        """Send a message and follow its turn until it is answered, live.

        A connection that breaks is taken up again; the answer comes all the same, once.

        Args:
            agent: which.
            text: what is said.
            session_id: of an existing session.
            **options: as for `say`.

        Yields:
            `accepted` (what `say` returns), `typing`, `token`, `tool`, and last one of `message`,
            `error` or `waiting`; `status` when the agent goes down or comes back meanwhile.
        """
        options.setdefault("idempotency_key", new_id())
        accepted: View | None = None
        position = Position()
        stream = self._stream(f"{_agent(agent)}/sse", position, params={"session_id": session_id})
        async with aclosing(stream):
            async for entry in stream:
                if accepted is None:
                    # Not before we listen: else the first words would be lost.
                    accepted = await self.say(agent, text, session_id=session_id, **options)
                    position.after = accepted["message_id"]
                    yield Entry(None, "accepted", accepted)
                elif entry.type == "status":
                    yield entry
                elif entry.data.get("event_id") == accepted["id"]:
                    yield entry
                    if entry.type in ENDS:
                        return

    @abstractmethod
    async def _ask(self, method: str, path: str, *, extra_s: float = 0, **rest: Any) -> View: ...

    @abstractmethod
    async def _post(self, path: str, body: View) -> View: ...

    @abstractmethod
    def _pages(self, path: str, filters: View) -> AsyncGenerator[View]: ...

    @abstractmethod
    def _stream(
        self, path: str, position: Position, *, params: View | None = None
    ) -> AsyncGenerator[Entry]: ...


def _agent(agent: str) -> str:
    return f"{AGENTS}/{quote(agent, safe='')}"
