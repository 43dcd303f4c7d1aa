"""`Client`: a hub from outside, for asyncio."""

from __future__ import annotations

import asyncio
import re
import time as clock
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import date, datetime
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote

import httpx
import orjson

from holdfast.domain.keys import prefix_of
from holdfast.domain.status import EVENT_ENDS
from holdfast.errors import HoldfastError, HubUnreachable, InvalidInput

from .agents import Agents
from .answers import ERRORS, Entry, Position, entries_of, given
from .dead_letters import DeadLetters
from .knowledge import Knowledge
from .money import Money
from .prompts import Prompts
from .schedules import Schedules
from .sessions import Sessions

T = TypeVar("T")

View = dict[str, Any]
"""A JSON object of the API."""

URL = "http://127.0.0.1:8001"

API = "/api/v1"

WAIT_S = 30.0
"""Longest time one request waits for an event; waiting goes on with the next."""

SILENCE_S = 40.0
"""A stream that shows no sign of life this long is broken: heartbeats come every 15 s."""

RECONNECT_S = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Pauses before each try to take a broken stream up again; then the hub is unreachable."""


_LOOPBACK = re.compile(r"https?://(localhost|127\.[0-9.]+|\[::1\])(:|/|$)", re.IGNORECASE)


class Client(Agents, DeadLetters, Knowledge, Money, Prompts, Schedules, Sessions):
    """Talks to one hub; use it as `async with Client() as client`.

    Every method raises what the hub answered as the same error class the hub itself would raise
    (`NotFound`, `InvalidInput`, `IdempotencyConflict`, `IllegalMove`, `StoreError`, …), and
    `HubUnreachable` when no hub answers.
    """

    def __init__(
        self,
        url: str = URL,
        *,
        key: str | None = None,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: of the hub.
            key: API key, when the hub wants one: `hf_…`.
            timeout: seconds an answer may take, not counting what it was asked to wait.
            transport: instead of the network.

        Raises:
            InvalidInput: the key has not the form of one.
        """
        if key is not None and prefix_of(key) is None:
            raise InvalidInput("the API key has not the form hf_…", hint="see: holdfast keys")
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"} if key else None,
            timeout=timeout,
            transport=transport,
            verify=self.url.startswith("https:"),  # loading certificates takes its time
            trust_env=not _LOOPBACK.match(self.url),  # a proxy does not know our loopback
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def submit(
        self,
        type: str,  # noqa: A002 - CloudEvents' name
        data: Any,
        *,
        idempotency_key: str | None = None,
        wait: float | None = None,
        source: str | None = None,
        subject: str | None = None,
        time: datetime | str | None = None,
        priority: int | None = None,
        target: str | None = None,
        session_id: str | None = None,
        deliver_at: datetime | str | None = None,
        delay: float | None = None,
    ) -> View:
        """Send an event; when this returns, it is kept.

        Args:
            type: names the pipeline, unless `target` does.
            data: what the pipeline works on: JSON.
            idempotency_key: the same key and body give the same event again.
            wait: seconds (up to 60) to wait for its end.
            source: who sends it, a URI reference.
            subject: what it is about.
            time: when it happened, with a time zone.
            priority: higher runs first; without it the pipeline's own.
            target: the pipeline, when it is not `type`.
            session_id: the conversation it is a turn of; turns run one after the other.
            deliver_at: not run before; with a time zone.
            delay: seconds; not run earlier than that from now.

        Returns:
            `id`, `status`, `created`, `links`; the whole event with its `result` once it has
            ended.
        """
        body: View = {"type": type, "data": data}
        optional: View = {"source": source, "subject": subject, "time": time, "target": target}
        optional |= {"priority": priority, "session_id": session_id}
        optional |= {"deliver_at": deliver_at, "delay": delay}
        body |= {name: value for name, value in optional.items() if value is not None}
        headers = {"content-type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        return await self._ask(
            "POST",
            f"{API}/events",
            params={} if wait is None else {"wait": wait},
            headers=headers,
            content=orjson.dumps(body),
            extra_s=wait or 0,
        )

    async def event(self, event_id: str, *, wait: float | None = None) -> View:
        """An event with its data, executions and, once it has ended, its `result`.

        Args:
            event_id: which.
            wait: seconds (up to 60) to wait for its end.
        """
        params = {} if wait is None else {"wait": wait}
        path = f"{API}/events/{quote(event_id, safe='')}"
        return await self._ask("GET", path, params=params, extra_s=wait or 0)

    async def wait(self, event_id: str, timeout: float | None = None) -> View:
        """Wait until an event has ended, without polling.

        Args:
            event_id: which.
            timeout: seconds; None waits as long as it takes.

        Raises:
            TimeoutError: it has not ended in time.
        """
        end = None if timeout is None else clock.monotonic() + timeout
        while True:
            left = WAIT_S if end is None else min(WAIT_S, max(0.0, end - clock.monotonic()))
            event = await self.event(event_id, wait=left)
            if event["status"] in EVENT_ENDS:
                return event
            if end is not None and clock.monotonic() >= end:
                raise TimeoutError(f"event {event_id} is {event['status']} after {timeout:g} s")

    async def events_page(self, **filters: Any) -> View:
        """One page of events, newest first: `items` and `next`.

        Args:
            **filters: `status`, `target`, `origin`, `since`, `until`, `before`, `limit`.
        """
        return await self._ask("GET", f"{API}/events", params=given(filters))

    def events(self, **filters: Any) -> AsyncGenerator[View]:
        """All events, newest first; pages are fetched as they are needed.

        Args:
            **filters: as for `events_page`; `limit` is the size of the pages.
        """
        return self._pages(f"{API}/events", filters)

    async def cancel_event(self, event_id: str) -> View:
        """Cancel an unfinished event; a running step is told to stop."""
        return await self._ask("POST", f"{API}/events/{quote(event_id, safe='')}/cancel")

    async def execution(self, execution_id: str) -> View:
        """An execution whole: every step with its attempts, prompts, answers and cost."""
        return await self._ask("GET", _execution(execution_id))

    async def executions_page(self, **filters: Any) -> View:
        """One page of executions, newest first: `items` and `next`.

        Args:
            **filters: `status`, `pipeline`, `event_id`, `parent_id`, `origin`, `suspicious` (True
                or False), `since`, `until`, `before`, `limit`.
        """
        return await self._ask("GET", f"{API}/executions", params=given(filters))

    def executions(self, **filters: Any) -> AsyncGenerator[View]:
        """All executions, newest first; pages are fetched as they are needed.

        Args:
            **filters: as for `executions_page`; `limit` is the size of the pages.
        """
        return self._pages(f"{API}/executions", filters)

    async def progress(self, execution_id: str) -> View:
        """Every node of an execution's pipeline with its status, also while it runs."""
        return await self._ask("GET", f"{_execution(execution_id)}/progress")

    async def export(self, execution_id: str) -> View:
        """An execution and its event as one self-contained document."""
        return await self._ask("GET", f"{_execution(execution_id)}/export")

    async def fixture(self, execution_id: str) -> View:
        """What a test needs to run an execution again; see `holdfast.testing.replayed`."""
        return await self._ask("GET", f"{_execution(execution_id)}/fixture")

    async def resume(
        self, execution_id: str, answer: Any = ..., *, wait: str | None = None
    ) -> View:
        """Answer what an execution waits for, or let a paused one go on.

        Args:
            execution_id: which.
            answer: JSON; leave it out for a paused one.
            wait: id or name of the wait, where there are several.

        Raises:
            AlreadyAnswered: somebody else's answer was first.
            VersionGone: the version it began under is not loaded; see `migrate`.
        """
        body: View = {} if answer is ... else {"answer": answer}
        if wait is not None:
            body["wait"] = wait
        return await self._post(f"{_execution(execution_id)}/resume", body)

    async def replay(
        self,
        execution_id: str,
        *,
        answers: str = "recorded",
        unrecorded: str = "fail",
        start: str | None = None,
        data: Any = ...,
        prompts: Mapping[str, Mapping[str, str]] | None = None,
        aliases: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> View:
        """Run an ended execution once more, as an event of its own; the answer is that event.

        Args:
            execution_id: which.
            answers: of models and tools: `recorded`, at no cost and with no call, or `live`.
            unrecorded: where the record has no answer the replay is to `fail`, or to ask: `live`.
            start: name of the node from which on everything runs live.
            data: other data for the event.
            prompts: by model node, templates for its `user` and `system` prompt, or the `version`
                of a prompt of the registry (a label or a hash).
            aliases: by model alias, the one to ask instead.
            idempotency_key: the same key and body give the same event.

        Raises:
            IllegalMove: it has not ended.
            NotReplayable: it was only recorded here, and ran elsewhere.
        """
        body: View = {"answers": answers, "unrecorded": unrecorded, "from": start}
        body |= {"prompts": dict(prompts or {}), "aliases": dict(aliases or {})}
        if data is not ...:
            body["data"] = data
        headers = {"content-type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        path = f"{_execution(execution_id)}/replay"
        return await self._ask("POST", path, headers=headers, content=orjson.dumps(body))

    async def diff(self, a: str, b: str) -> View:
        """What differs between two executions: `same`, `first`, `followed`, `changes`, `steps`."""
        return await self._ask("GET", f"{_execution(a)}/diff/{quote(b, safe='')}")

    async def pause(self, execution_id: str) -> View:
        """Stop a running execution before its next step."""
        return await self._ask("POST", f"{_execution(execution_id)}/pause")

    async def migrate(self, execution_id: str, version: str) -> View:
        """Let a halted execution go on under the loaded version of its pipeline."""
        return await self._post(f"{_execution(execution_id)}/migrate", {"version": version})

    async def many(self, verb: str, *, dry_run: bool = False, **filters: Any) -> View:
        """Cancel, pause or resume all executions that a filter chooses.

        Args:
            verb: `cancel`, `pause` or `resume`.
            dry_run: only count them.
            **filters: `status`, `pipeline`, `event_id`, `since`, `until`.

        Returns:
            `matched`, `done`, and `refused` with the reasons.
        """
        body = {"filter": given(filters), "dry_run": dry_run}
        return await self._post(f"{API}/executions/{verb}", body)

    async def whole_pipeline(self, verb: str, name: str, *, dry_run: bool = False) -> View:
        """Cancel, pause or resume all of a pipeline, its queued events included.

        Args:
            verb: `cancel`, `pause` or `resume`.
            name: of the pipeline.
            dry_run: only count what it would take.

        Returns:
            As `many`.
        """
        path = f"{API}/pipelines/{quote(name, safe='')}/{verb}"
        return await self._post(path, {"dry_run": dry_run})

    async def cancel_execution(self, execution_id: str) -> View:
        """Cancel an unfinished execution and its event; a running step is told to stop."""
        return await self._ask("POST", f"{_execution(execution_id)}/cancel")

    async def prune(self, pipeline: str | None = None, *, dry_run: bool = False) -> View:
        """Delete ended events older than their pipeline's `retention`, with their executions.

        Args:
            pipeline: only this one's.
            dry_run: only count.

        Returns:
            `events`: how many, by pipeline that declares a retention; `dry_run`.
        """
        params: dict[str, Any] = {} if pipeline is None else {"pipeline": pipeline}
        if dry_run:
            params["dry_run"] = "true"
        return await self._ask("POST", f"{API}/executions/prune", params=params)

    async def follow(
        self, execution_id: str, after: str | int | None = None
    ) -> AsyncGenerator[Entry]:
        """What happens in an execution, from its start until its end, live.

        A connection that breaks is taken up again where it broke off, so that each numbered
        entry comes exactly once.

        Args:
            execution_id: which.
            after: an entry's id: only what follows it.
        """
        position = Position(None if after is None else str(after))
        stream = self._stream(f"{_execution(execution_id)}/stream", position)
        async with aclosing(stream):
            async for entry in stream:
                yield entry
                if entry.type == "execution.finished":
                    return

    async def pipelines(self) -> View:
        """The loaded pipelines (`items`), and the apps that are left out (`failures`)."""
        return await self._ask("GET", f"{API}/pipelines")

    async def pipeline(self, name: str) -> View:
        """A pipeline with the schema of its events, its nodes and edges."""
        return await self._ask("GET", f"{API}/pipelines/{quote(name, safe='')}")

    async def breakers(self) -> View:
        """The circuit breakers, by name: `items`."""
        return await self._ask("GET", f"{API}/breakers")

    async def context_caches(self) -> View:
        """The static beginnings of prompts that providers keep, and those too small: `items`."""
        return await self._ask("GET", f"{API}/context-cache")

    async def cache_savings(self, *, since: date | None = None, until: date | None = None) -> View:
        """What was saved by what providers keep: `items` by day and prompt, their `total`.

        Args:
            since: first day, UTC.
            until: last day.
        """
        days = {name: day.isoformat() for name, day in (("since", since), ("until", until)) if day}
        return await self._ask("GET", f"{API}/context-cache/savings", params=days)

    async def open_breaker(
        self, name: str, *, seconds: float | None = None, reason: str | None = None
    ) -> View:
        """Let no calls be made under a breaker; what needs them is postponed.

        Args:
            name: of the breaker.
            seconds: after which one call may try; None: none does until it is closed.
            reason: shown to who meets it.
        """
        body = {"seconds": seconds, "reason": reason}
        given = {key: value for key, value in body.items() if value is not None}
        return await self._post(f"{API}/breakers/{quote(name, safe='')}/open", given)

    async def close_breaker(self, name: str) -> View:
        """Let calls be made again; what waited for it runs."""
        return await self._ask("POST", f"{API}/breakers/{quote(name, safe='')}/close")

    async def health(self) -> View:
        """Whether a hub lives there: `status` and `version`."""
        return await self._ask("GET", "/healthz")

    async def ready(self) -> View:
        """Make sure that it can work.

        Raises:
            NotReady: it cannot; the message says why.
        """
        return await self._ask("GET", "/readyz")

    async def create_key(
        self,
        name: str,
        *,
        owner: str,
        scopes: Sequence[str],
        expires_at: datetime | None = None,
    ) -> View:
        """Make an API key; the answer's `key` is shown this once.

        Args:
            name: what it is for.
            owner: whose things it opens; made with their first key.
            scopes: of `read`, `write` and `admin`.
            expires_at: with a time zone; from then on it opens nothing.
        """
        body: View = {"name": name, "owner": owner, "scopes": list(scopes)}
        if expires_at is not None:
            body["expires_at"] = expires_at
        headers = {"content-type": "application/json"}
        return await self._ask("POST", f"{API}/keys", headers=headers, content=orjson.dumps(body))

    async def keys(self) -> View:
        """The API keys of all owners, newest first: `items`."""
        return await self._ask("GET", f"{API}/keys")

    async def revoke_key(self, key_id: str) -> View:
        """Take an API key back, by its id or prefix."""
        return await self._ask("DELETE", f"{API}/keys/{quote(key_id, safe='')}")

    async def hubs(self) -> View:
        """The hubs that share the database, oldest first: `items`."""
        return await self._ask("GET", f"{API}/hubs")

    async def _pages(self, path: str, filters: View) -> AsyncGenerator[View]:
        page = await self._ask("GET", path, params=given(filters))
        while True:
            for item in page["items"]:
                yield item
            if page["next"] is None:
                return
            page = await self._ask("GET", page["next"])

    async def _stream(
        self, path: str, position: Position, *, params: View | None = None
    ) -> AsyncGenerator[Entry]:
        """The entries of a stream, taken up where it broke off.

        Args:
            path: of the stream.
            position: where to begin; moved on with each numbered entry, and by the caller who
                knows better.
            params: of the query.
        """
        reached, tries = False, 0
        while True:
            after = position.after
            try:
                async with self._http.stream(
                    "GET",
                    path,
                    params=params,
                    headers={} if after is None else {"last-event-id": after},
                    timeout=httpx.Timeout(self._timeout, read=SILENCE_S),
                ) as response:
                    if response.status_code == 204:
                        return
                    if not response.is_success:
                        await response.aread()
                        raise self._error(response)
                    reached = True
                    async for entry in entries_of(response):
                        position.after, tries = entry.id or position.after, 0
                        yield entry
            except httpx.TransportError as error:
                if not reached or tries == len(RECONNECT_S):
                    raise self._unreachable(error) from error
            # Broken, or closed by a hub that stops: it may be back soon.
            if tries == len(RECONNECT_S):
                raise HubUnreachable(f"{self.url} ends the stream {path} early")
            await asyncio.sleep(RECONNECT_S[tries])
            tries += 1

    async def _post(self, path: str, body: View) -> View:
        headers = {"content-type": "application/json"}
        return await self._ask("POST", path, headers=headers, content=orjson.dumps(body))

    async def _put(self, path: str, body: View) -> View:
        headers = {"content-type": "application/json"}
        return await self._ask("PUT", path, headers=headers, content=orjson.dumps(body))

    async def _ask(self, method: str, path: str, *, extra_s: float = 0, **rest: Any) -> View:
        try:
            response = await self._http.request(
                method, path, timeout=self._timeout + extra_s, **rest
            )
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise self._error(response)
        return self._object(response)

    def _object(self, response: httpx.Response) -> View:
        try:
            body: Any = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            raise HubUnreachable(
                f"{self.url} answers {response.status_code}, but not as a hub does",
                hint="another program listens there; check the address",
            )
        return cast("View", body)

    def _error(self, response: httpx.Response) -> HoldfastError:
        problem = self._object(response)
        kind = ERRORS.get(problem.get("code", ""), HoldfastError)
        detail = problem.get("detail") or f"{self.url} answers {response.status_code}"
        return kind(detail, hint=problem.get("hint", ""), fields=problem.get("errors"))

    def _unreachable(self, error: Exception) -> HubUnreachable:
        reason = str(error) or type(error).__name__
        return HubUnreachable(
            f"no hub answers at {self.url}: {reason}", hint="start one with: holdfast up"
        )


def _execution(execution_id: str) -> str:
    return f"{API}/executions/{quote(execution_id, safe='')}"
