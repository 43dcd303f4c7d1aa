"""`SyncClient`: the same client for code without an event loop."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import httpx

from holdfast.errors import HubUnreachable

from .answers import Entry
from .client import URL, Client, View
from .sync_agents import SyncAgents

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")


class SyncClient(SyncAgents):
    """`Client` for code without an event loop: Django, Flask, scripts.

    The same client on one background thread, which starts with the first call; may be shared by
    threads. Use it as `with SyncClient() as client`, or `close` it.
    """

    def __init__(
        self,
        url: str = URL,
        *,
        key: str | None = None,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Prepare as `Client` does; no thread is started yet."""
        self._client = Client(url, key=key, timeout=timeout, transport=transport)
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the thread; calls under way fail."""
        with self._lock:
            portal, self._portal, self._closed = self._portal, None, True
        if portal is not None:
            portal.call(self._client.aclose)
            portal.call(partial(portal.stop, cancel_remaining=True))
            self._stack.close()

    def submit(
        self,
        type: str,  # noqa: A002 - CloudEvents' name
        data: Any,
        **options: Any,
    ) -> View:
        """See `Client.submit`."""
        return self._call(self._client.submit, type, data, **options)

    def event(self, event_id: str, *, wait: float | None = None) -> View:
        """See `Client.event`."""
        return self._call(self._client.event, event_id, wait=wait)

    def wait(self, event_id: str, timeout: float | None = None) -> View:
        """See `Client.wait`."""
        return self._call(self._client.wait, event_id, timeout)

    def events_page(self, **filters: Any) -> View:
        """See `Client.events_page`."""
        return self._call(self._client.events_page, **filters)

    def events(self, **filters: Any) -> Generator[View]:
        """See `Client.events`."""
        return self._each(self._client.events(**filters))

    def cancel_event(self, event_id: str) -> View:
        """See `Client.cancel_event`."""
        return self._call(self._client.cancel_event, event_id)

    def dead_letters_page(self, **filters: Any) -> View:
        """See `Client.dead_letters_page`."""
        return self._call(self._client.dead_letters_page, **filters)

    def dead_letters(self, **filters: Any) -> Generator[View]:
        """See `Client.dead_letters`."""
        return self._each(self._client.dead_letters(**filters))

    def dead_letter(self, event_id: str) -> View:
        """See `Client.dead_letter`."""
        return self._call(self._client.dead_letter, event_id)

    def edit_dead_letter(self, event_id: str, data: Any) -> View:
        """See `Client.edit_dead_letter`."""
        return self._call(self._client.edit_dead_letter, event_id, data)

    def replay_dead_letter(self, event_id: str) -> View:
        """See `Client.replay_dead_letter`."""
        return self._call(self._client.replay_dead_letter, event_id)

    def discard_dead_letter(self, event_id: str, reason: str) -> View:
        """See `Client.discard_dead_letter`."""
        return self._call(self._client.discard_dead_letter, event_id, reason)

    def replay_dead_letters(self, **options: Any) -> View:
        """See `Client.replay_dead_letters`."""
        return self._call(self._client.replay_dead_letters, **options)

    def discard_dead_letters(self, reason: str, **options: Any) -> View:
        """See `Client.discard_dead_letters`."""
        return self._call(self._client.discard_dead_letters, reason, **options)

    def collections(self) -> View:
        """See `Client.collections`."""
        return self._call(self._client.collections)

    def collection(self, name: str) -> View:
        """See `Client.collection`."""
        return self._call(self._client.collection, name)

    def delete_collection(self, name: str) -> View:
        """See `Client.delete_collection`."""
        return self._call(self._client.delete_collection, name)

    def put_document(self, collection: str, key: str, text: str, **options: Any) -> View:
        """See `Client.put_document`."""
        return self._call(self._client.put_document, collection, key, text, **options)

    def delete_document(self, collection: str, key: str) -> View:
        """See `Client.delete_document`."""
        return self._call(self._client.delete_document, collection, key)

    def search(self, collection: str, query: str, **options: Any) -> View:
        """See `Client.search`."""
        return self._call(self._client.search, collection, query, **options)

    def schedules(self) -> View:
        """See `Client.schedules`."""
        return self._call(self._client.schedules)

    def schedule(self, name: str) -> View:
        """See `Client.schedule`."""
        return self._call(self._client.schedule, name)

    def put_schedule(self, name: str, **options: Any) -> View:
        """See `Client.put_schedule`."""
        return self._call(self._client.put_schedule, name, **options)

    def pause_schedule(self, name: str) -> View:
        """See `Client.pause_schedule`."""
        return self._call(self._client.pause_schedule, name)

    def resume_schedule(self, name: str) -> View:
        """See `Client.resume_schedule`."""
        return self._call(self._client.resume_schedule, name)

    def delete_schedule(self, name: str) -> View:
        """See `Client.delete_schedule`."""
        return self._call(self._client.delete_schedule, name)

    def prompts(self) -> View:
        """See `Client.prompts`."""
        return self._call(self._client.prompts)

    def prompt(self, name: str) -> View:
        """See `Client.prompt`."""
        return self._call(self._client.prompt, name)

    def prompt_version(self, name: str, version: str) -> View:
        """See `Client.prompt_version`."""
        return self._call(self._client.prompt_version, name, version)

    def put_prompt(self, name: str, source: str) -> View:
        """See `Client.put_prompt`."""
        return self._call(self._client.put_prompt, name, source)

    def move_label(self, name: str, label: str, version: str, *, reason: str | None = None) -> View:
        """See `Client.move_label`."""
        return self._call(self._client.move_label, name, label, version, reason=reason)

    def roll_back_label(self, name: str, label: str, *, reason: str | None = None) -> View:
        """See `Client.roll_back_label`."""
        return self._call(self._client.roll_back_label, name, label, reason=reason)

    def diff_prompts(self, name: str, a: str, b: str) -> View:
        """See `Client.diff_prompts`."""
        return self._call(self._client.diff_prompts, name, a, b)

    def execution(self, execution_id: str) -> View:
        """See `Client.execution`."""
        return self._call(self._client.execution, execution_id)

    def executions_page(self, **filters: Any) -> View:
        """See `Client.executions_page`."""
        return self._call(self._client.executions_page, **filters)

    def executions(self, **filters: Any) -> Generator[View]:
        """See `Client.executions`."""
        return self._each(self._client.executions(**filters))

    def progress(self, execution_id: str) -> View:
        """See `Client.progress`."""
        return self._call(self._client.progress, execution_id)

    def export(self, execution_id: str) -> View:
        """See `Client.export`."""
        return self._call(self._client.export, execution_id)

    def fixture(self, execution_id: str) -> View:
        """See `Client.fixture`."""
        return self._call(self._client.fixture, execution_id)

    def replay(self, execution_id: str, **options: Any) -> View:
        """See `Client.replay`."""
        return self._call(self._client.replay, execution_id, **options)

    def diff(self, a: str, b: str) -> View:
        """See `Client.diff`."""
        return self._call(self._client.diff, a, b)

    def resume(self, execution_id: str, answer: Any = ..., *, wait: str | None = None) -> View:
        """See `Client.resume`."""
        return self._call(self._client.resume, execution_id, answer, wait=wait)

    def pause(self, execution_id: str) -> View:
        """See `Client.pause`."""
        return self._call(self._client.pause, execution_id)

    def migrate(self, execution_id: str, version: str) -> View:
        """See `Client.migrate`."""
        return self._call(self._client.migrate, execution_id, version)

    def many(self, verb: str, *, dry_run: bool = False, **filters: Any) -> View:
        """See `Client.many`."""
        return self._call(self._client.many, verb, dry_run=dry_run, **filters)

    def whole_pipeline(self, verb: str, name: str, *, dry_run: bool = False) -> View:
        """See `Client.whole_pipeline`."""
        return self._call(self._client.whole_pipeline, verb, name, dry_run=dry_run)

    def cancel_execution(self, execution_id: str) -> View:
        """See `Client.cancel_execution`."""
        return self._call(self._client.cancel_execution, execution_id)

    def prune(self, pipeline: str | None = None, *, dry_run: bool = False) -> View:
        """See `Client.prune`."""
        return self._call(self._client.prune, pipeline, dry_run=dry_run)

    def follow(self, execution_id: str, after: str | int | None = None) -> Generator[Entry]:
        """See `Client.follow`."""
        return self._each(self._client.follow(execution_id, after))

    def pipelines(self) -> View:
        """See `Client.pipelines`."""
        return self._call(self._client.pipelines)

    def usage(
        self, *, by: str = "day", since: date | None = None, until: date | None = None
    ) -> View:
        """See `Client.usage`."""
        return self._call(self._client.usage, by=by, since=since, until=until)

    def estimate(self, pipeline: str, data: Any) -> View:
        """See `Client.estimate`."""
        return self._call(self._client.estimate, pipeline, data)

    def budgets(self) -> View:
        """See `Client.budgets`."""
        return self._call(self._client.budgets)

    def set_budget(
        self, scope: str, *, unit: str, amount: str, subject: str = "", period: str = "ever"
    ) -> View:
        """See `Client.set_budget`."""
        return self._call(
            self._client.set_budget,
            scope,
            unit=unit,
            amount=amount,
            subject=subject,
            period=period,
        )

    def remove_budget(self, budget_id: str) -> View:
        """See `Client.remove_budget`."""
        return self._call(self._client.remove_budget, budget_id)

    def breakers(self) -> View:
        """See `Client.breakers`."""
        return self._call(self._client.breakers)

    def context_caches(self) -> View:
        """See `Client.context_caches`."""
        return self._call(self._client.context_caches)

    def cache_savings(self, *, since: date | None = None, until: date | None = None) -> View:
        """See `Client.cache_savings`."""
        return self._call(self._client.cache_savings, since=since, until=until)

    def open_breaker(
        self, name: str, *, seconds: float | None = None, reason: str | None = None
    ) -> View:
        """See `Client.open_breaker`."""
        return self._call(self._client.open_breaker, name, seconds=seconds, reason=reason)

    def close_breaker(self, name: str) -> View:
        """See `Client.close_breaker`."""
        return self._call(self._client.close_breaker, name)

    def pipeline(self, name: str) -> View:
        """See `Client.pipeline`."""
        return self._call(self._client.pipeline, name)

    def create_key(self, name: str, **options: Any) -> View:
        """See `Client.create_key`."""
        return self._call(self._client.create_key, name, **options)

    def keys(self) -> View:
        """See `Client.keys`."""
        return self._call(self._client.keys)

    def hubs(self) -> View:
        """See `Client.hubs`."""
        return self._call(self._client.hubs)

    def revoke_key(self, key_id: str) -> View:
        """See `Client.revoke_key`."""
        return self._call(self._client.revoke_key, key_id)

    def health(self) -> View:
        """See `Client.health`."""
        return self._call(self._client.health)

    def ready(self) -> View:
        """See `Client.ready`."""
        return self._call(self._client.ready)

    def _call(self, method: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        try:
            return self._running().call(partial(method, *args, **options))
        except HubUnreachable as error:
            if self._closed:  # by another thread
                raise RuntimeError("the client was closed") from error
            raise

    def _each(self, items: AsyncGenerator[T]) -> Generator[T]:
        over = object()
        try:
            while (item := self._call(anext, items, over)) is not over:
                yield cast("T", item)
        finally:
            if not self._closed:
                self._call(items.aclose)

    def _running(self) -> BlockingPortal:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._portal is None:
                from anyio.from_thread import start_blocking_portal

                self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))
            return self._portal
