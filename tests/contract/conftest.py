"""One store per test, on every database."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.events import Claimed, NewEvent
from holdfast.domain.executions import Attempt, Execution, Record, Step, Totals
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.store import Store, migrations
from holdfast.store.commands import Claim, Submit, Submitted
from holdfast.store.registry import open_store
from holdfast.testing.postgres import PostgresForTests

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "holdfast.db"
    migrations.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: PostgresForTests = request.getfixturevalue("postgres")
    url = server.empty()
    yield url
    server.drop(url)


@pytest.fixture
def store_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a fresh migrated database."""
    if backend == "postgresql":
        server: PostgresForTests = request.getfixturevalue("postgres")
        url = server.migrated()
        yield url
        server.drop(url)
        return
    file = tmp_path / "holdfast.db"
    shutil.copy(request.getfixturevalue("migrated_file"), file)
    yield f"sqlite:///{file}"


@pytest.fixture
def reopen(store_url: str, tmp_path: Path) -> Callable[[], Store]:
    """Opens the test's database once more (SQLite: after the store before was closed)."""
    return lambda: open_store(store_url, home=tmp_path, clock=now_us)


@pytest.fixture
async def store(reopen: Callable[[], Store]) -> AsyncIterator[Store]:
    opened = reopen()
    yield opened
    await opened.close()


HOUR = 3600 * 1_000_000


class Make:
    """Makes what tests need, with only the fields they care about spelled out."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def event(self, **fields: Any) -> NewEvent:
        values: dict[str, Any] = {
            "id": new_id(),
            "owner_id": "local",
            "type": "mail",
            "source": "/tests",
            "subject": None,
            "target": "triage",
            "target_kind": "pipeline",
            "data": b'{"n": 1}',
            "idempotency_key": None,
            "body_hash": "h1",
            "priority": 0,
            "traceparent": None,
            "occurred_at": None,
        }
        return NewEvent(**(values | fields))

    def claim_of(self, **fields: Any) -> Claim:
        values: dict[str, Any] = {
            "versions": {"triage": ("g1", "c1")},
            "limit": 10,
            "lease_owner": "boot-1",
            "lease_us": HOUR,
        }
        return Claim(**(values | fields))

    async def submitted(self, **fields: Any) -> Submitted:
        return await self.store.write(Submit(self.event(**fields)))

    async def claimed(self, **fields: Any) -> list[Claimed]:
        return await self.store.write(self.claim_of(**fields))

    async def running(self, *, lease_owner: str = "boot-1", lease_us: int = HOUR) -> Claimed:
        """A new event, claimed."""
        await self.submitted()
        (claimed,) = await self.claimed(lease_owner=lease_owner, lease_us=lease_us)
        return claimed

    def step(self, step: int = 1, **fields: Any) -> Step:
        values: dict[str, Any] = {
            "step": step,
            "parent": None,
            "seq": 2 * step - 1,
            "end_seq": 2 * step,
            "kind": "model",
            "operation": "judge",
            "operation_version": "1",
            "status": StepStatus.SUCCEEDED,
            "skip_reason": None,
            "input": 0,
            "output": 1,
            "error": None,
            "error_phase": None,
            "started_at": 1_700_000_000_000_000,
            "duration_us": 1500,
            "suspicious": None,
        }
        return Step(**(values | fields))

    def attempt(self, step: int = 1, n: int = 1, **fields: Any) -> Attempt:
        values: dict[str, Any] = {
            "step": step,
            "n": n,
            "call": 1,
            "seq": 2,
            "end_seq": 3,
            "status": StepStatus.SUCCEEDED,
            "provider": "openai",
            "model": "gpt",
            "parameters": {"temperature": 0.5},
            "prompt_system": 1,
            "prompt_user": 2,
            "messages": None,
            "raw_response": 3,
            "started_at": 1_700_000_000_000_000,
            "duration_us": 900,
            "first_token_us": 400,
            "request_id": "req-1",
            "finish_reason": "stop",
            "http_status": 200,
            "validation": "valid",
            "validation_us": 12,
            "validation_errors": None,
            "tokens_input": 100,
            "tokens_cached": 20,
            "tokens_cache_write": None,
            "tokens_output": 7,
            "tokens_reasoning": 0,
            "usage": "reported",
            "cost_pico": 2_600_000,
            "price_source": "genai-prices",
            "credits": 1,
            "error": None,
            "error_class": None,
        }
        return Attempt(**(values | fields))

    def execution(self, of: Claimed, **fields: Any) -> Execution:
        values: dict[str, Any] = {
            "id": of.execution_id,
            "owner_id": of.owner_id,
            "event_id": of.event_id,
            "kind": of.target_kind,
            "name": of.target,
            "graph_version": "g1",
            "code_version": "c1",
            "delivery": of.delivery,
            "parent_id": None,
            "session_id": None,
            "trace_id": None,
            "status": ExecutionStatus.SUCCEEDED,
            "input": 0,
            "output": 1,
            "error": None,
            "started_at": of.started_at,
            "finished_at": of.started_at + 5000,
            "duration_us": 5000,
            "steps_total": 1,
            "steps_succeeded": 1,
            "steps_skipped": 0,
            "steps_failed": 0,
            "totals": Totals(tokens_input=100, tokens_output=7, cost_pico=2_600_000, credits=1),
            "flags": {},
            "seq": 4,
        }
        return Execution(**(values | fields))

    def record(
        self,
        of: Claimed,
        status: ExecutionStatus = ExecutionStatus.SUCCEEDED,
        *,
        lease_owner: str = "boot-1",
        **fields: Any,
    ) -> Record:
        values: dict[str, Any] = {
            "execution": self.execution(of, status=status),
            "steps": (self.step(),),
            "attempts": (self.attempt(),),
            "entries": (["e"], ["v", "an answer"]),
            "blobs": (),
            "lease_owner": lease_owner,
            "fence": of.fence,
        }
        return Record(**(values | fields))


@pytest.fixture
def make(store: Store) -> Make:
    return Make(store)
