"""The part of `SyncClient` about agents and sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import Any, TypeVar

from .answers import Entry
from .client import Client, View

T = TypeVar("T")


class SyncAgents(ABC):
    """Part of `SyncClient`."""

    _client: Client

    def agents_page(self, **filters: Any) -> View:
        """See `Client.agents_page`."""
        return self._call(self._client.agents_page, **filters)

    def agents(self, **filters: Any) -> Generator[View]:
        """See `Client.agents`."""
        return self._each(self._client.agents(**filters))

    def agent(self, agent: str) -> View:
        """See `Client.agent`."""
        return self._call(self._client.agent, agent)

    def apply_agent(self, name: str, config: Mapping[str, Any], **options: Any) -> View:
        """See `Client.apply_agent`."""
        return self._call(self._client.apply_agent, name, config, **options)

    def delete_agent(self, agent: str) -> View:
        """See `Client.delete_agent`."""
        return self._call(self._client.delete_agent, agent)

    def start_agent(self, agent: str) -> View:
        """See `Client.start_agent`."""
        return self._call(self._client.start_agent, agent)

    def stop_agent(self, agent: str) -> View:
        """See `Client.stop_agent`."""
        return self._call(self._client.stop_agent, agent)

    def restart_agent(self, agent: str) -> View:
        """See `Client.restart_agent`."""
        return self._call(self._client.restart_agent, agent)

    def agent_status(self, agent: str) -> View:
        """See `Client.agent_status`."""
        return self._call(self._client.agent_status, agent)

    def agent_versions(self, agent: str) -> View:
        """See `Client.agent_versions`."""
        return self._call(self._client.agent_versions, agent)

    def diff_agent(self, agent: str, a: int, b: int) -> View:
        """See `Client.diff_agent`."""
        return self._call(self._client.diff_agent, agent, a, b)

    def roll_back_agent(self, agent: str, version: int | None = None) -> View:
        """See `Client.roll_back_agent`."""
        return self._call(self._client.roll_back_agent, agent, version)

    def agent_logs(self, agent: str, *, tail: int | None = None, offset: int | None = None) -> View:
        """See `Client.agent_logs`."""
        return self._call(self._client.agent_logs, agent, tail=tail, offset=offset)

    def say(self, agent: str, text: str, **options: Any) -> View:
        """See `Client.say`."""
        return self._call(self._client.say, agent, text, **options)

    def talk(self, agent: str, text: str, *, session_id: str, **options: Any) -> Generator[Entry]:
        """See `Client.talk`."""
        return self._each(self._client.talk(agent, text, session_id=session_id, **options))

    def make_session(self, agent: str, **options: Any) -> View:
        """See `Client.make_session`."""
        return self._call(self._client.make_session, agent, **options)

    def sessions_page(self, **filters: Any) -> View:
        """See `Client.sessions_page`."""
        return self._call(self._client.sessions_page, **filters)

    def sessions(self, **filters: Any) -> Generator[View]:
        """See `Client.sessions`."""
        return self._each(self._client.sessions(**filters))

    def session(self, session_id: str) -> View:
        """See `Client.session`."""
        return self._call(self._client.session, session_id)

    def change_session(self, session_id: str, **changes: Any) -> View:
        """See `Client.change_session`."""
        return self._call(self._client.change_session, session_id, **changes)

    def delete_session(self, session_id: str) -> View:
        """See `Client.delete_session`."""
        return self._call(self._client.delete_session, session_id)

    def messages_page(self, session_id: str, **filters: Any) -> View:
        """See `Client.messages_page`."""
        return self._call(self._client.messages_page, session_id, **filters)

    def messages(self, session_id: str, **filters: Any) -> Generator[View]:
        """See `Client.messages`."""
        return self._each(self._client.messages(session_id, **filters))

    def give_feedback(
        self, session_id: str, message_id: str, feedback: str | None, *, comment: str | None = None
    ) -> View:
        """See `Client.give_feedback`."""
        return self._call(
            self._client.give_feedback, session_id, message_id, feedback, comment=comment
        )

    @abstractmethod
    def _call(self, method: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T: ...

    @abstractmethod
    def _each(self, items: AsyncGenerator[T]) -> Generator[T]: ...
