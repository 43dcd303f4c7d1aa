"""The OpenAPI document against the hub: what it promises is what comes, and nothing is a 500."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from holdfast.api import create_api

from .api_server import api_parts, hub_at, serving
from .conftest import HubForTests

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The hub works in this process too: Hypothesis takes its use of `random` for ours.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

EXAMPLES = 30


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """Whatever it is, as text: a body of lines has no schema that says more."""
    return str(value).encode("utf-8", "replace")


CONFORMANCE: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]

OPERATIONS = [
    ("POST", "/api/v1/events"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/events/{event_id}"),
    ("POST", "/api/v1/events/{event_id}/cancel"),
    ("GET", "/api/v1/dead-letters"),
    ("POST", "/api/v1/dead-letters/replay"),
    ("POST", "/api/v1/dead-letters/discard"),
    ("GET", "/api/v1/dead-letters/{event_id}"),
    ("PATCH", "/api/v1/dead-letters/{event_id}"),
    ("POST", "/api/v1/dead-letters/{event_id}/replay"),
    ("POST", "/api/v1/dead-letters/{event_id}/discard"),
    ("GET", "/api/v1/executions"),
    ("POST", "/api/v1/executions/prune"),
    ("GET", "/api/v1/executions/{execution_id}"),
    ("GET", "/api/v1/executions/{execution_id}/progress"),
    ("GET", "/api/v1/executions/{execution_id}/export"),
    ("GET", "/api/v1/executions/{execution_id}/fixture"),
    ("GET", "/api/v1/executions/{execution_id}/diff/{other_id}"),
    ("POST", "/api/v1/executions/{execution_id}/replay"),
    ("POST", "/api/v1/executions/{execution_id}/cancel"),
    ("POST", "/api/v1/executions/{execution_id}/migrate"),
    ("POST", "/api/v1/executions/{execution_id}/pause"),
    ("POST", "/api/v1/executions/{execution_id}/resume"),
    ("POST", "/api/v1/executions/{verb}"),
    ("POST", "/api/v1/pipelines/{name}/{verb}"),
    ("GET", "/api/v1/executions/{execution_id}/stream"),
    ("GET", "/api/v1/pipelines"),
    ("GET", "/api/v1/pipelines/{name}"),
    ("GET", "/api/v1/breakers"),
    ("POST", "/api/v1/breakers/{name}/open"),
    ("POST", "/api/v1/breakers/{name}/close"),
    ("GET", "/api/v1/context-cache"),
    ("GET", "/api/v1/context-cache/savings"),
    ("GET", "/api/v1/prompts"),
    ("POST", "/api/v1/prompts"),
    ("GET", "/api/v1/prompts/{name}/versions"),
    ("GET", "/api/v1/prompts/{name}/versions/{version}"),
    ("GET", "/api/v1/prompts/{name}/diff"),
    ("PUT", "/api/v1/prompts/{name}/labels/{label}"),
    ("POST", "/api/v1/prompts/{name}/labels/{label}/rollback"),
    ("POST", "/api/v1/recordings"),
    ("GET", "/api/v1/schedules"),
    ("PUT", "/api/v1/schedules/{name}"),
    ("GET", "/api/v1/schedules/{name}"),
    ("DELETE", "/api/v1/schedules/{name}"),
    ("POST", "/api/v1/schedules/{name}/pause"),
    ("POST", "/api/v1/schedules/{name}/resume"),
    ("GET", "/api/v1/collections"),
    ("GET", "/api/v1/collections/{name}"),
    ("DELETE", "/api/v1/collections/{name}"),
    ("GET", "/api/v1/collections/{name}/documents"),
    ("PUT", "/api/v1/collections/{name}/documents"),
    ("DELETE", "/api/v1/collections/{name}/documents"),
    ("POST", "/api/v1/collections/{name}/search"),
    ("GET", "/api/v1/usage"),
    ("POST", "/api/v1/pipelines/{name}/estimate"),
    ("GET", "/api/v1/budgets"),
    ("PUT", "/api/v1/budgets"),
    ("DELETE", "/api/v1/budgets/{budget_id}"),
    ("GET", "/api/v1/agents"),
    ("POST", "/api/v1/agents"),
    ("GET", "/api/v1/agents/{ref}"),
    ("PUT", "/api/v1/agents/{ref}"),
    ("DELETE", "/api/v1/agents/{ref}"),
    ("POST", "/api/v1/agents/{ref}/start"),
    ("POST", "/api/v1/agents/{ref}/stop"),
    ("POST", "/api/v1/agents/{ref}/restart"),
    ("GET", "/api/v1/agents/{ref}/status"),
    ("GET", "/api/v1/agents/{ref}/versions"),
    ("GET", "/api/v1/agents/{ref}/versions/{version}"),
    ("GET", "/api/v1/agents/{ref}/diff"),
    ("POST", "/api/v1/agents/{ref}/rollback"),
    ("GET", "/api/v1/agents/{ref}/logs"),
    ("POST", "/api/v1/agents/{ref}/messages"),
    ("GET", "/api/v1/agents/{ref}/sse"),
    ("GET", "/api/v1/sessions"),
    ("POST", "/api/v1/sessions"),
    ("GET", "/api/v1/sessions/{session_id}"),
    ("PATCH", "/api/v1/sessions/{session_id}"),
    ("DELETE", "/api/v1/sessions/{session_id}"),
    ("GET", "/api/v1/sessions/{session_id}/messages"),
    ("PUT", "/api/v1/sessions/{session_id}/messages/{message_id}/feedback"),
    ("POST", "/api/v1/keys"),
    ("GET", "/api/v1/keys"),
    ("DELETE", "/api/v1/keys/{key_id}"),
    ("GET", "/api/v1/hubs"),
    ("GET", "/"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]

BARE = [(method, path) for method, path in OPERATIONS if "v1" not in path or "pipelines" in path]
"""Operations whose documented input cannot be wrong."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HubForTests]:
    async with hub_at(tmp_path_factory.mktemp("home")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(hub: HubForTests) -> AsyncIterator[str]:
    async with serving(create_api(api_parts(hub.parts))) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def schema(url: str) -> Any:
    return await asyncio.to_thread(schemathesis.openapi.from_url, f"{url}/openapi.json")


async def test_every_route_is_tried(schema: Any) -> None:
    found = [operation.ok() for operation in schema.get_all_operations()]
    assert {(one.method.upper(), one.path) for one in found} == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_good_requests(schema: Any, method: str, path: str) -> None:
    await try_requests(schema[path][method], GenerationMode.POSITIVE, CONFORMANCE)


@pytest.mark.parametrize(("method", "path"), [one for one in OPERATIONS if one not in BARE])
async def test_bad_requests(schema: Any, method: str, path: str) -> None:
    checks = [*CONFORMANCE, negative_data_rejection]
    await try_requests(schema[path][method], GenerationMode.NEGATIVE, checks)


async def try_requests(operation: Any, mode: GenerationMode, checks: list[Any]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def every(case: Any) -> None:
        case.call_and_validate(checks=checks)

    await asyncio.to_thread(every)


async def test_what_is_there_conforms(schema: Any, url: str, tmp_path: Path) -> None:
    """Generated ids are never there: the answers about real things, each held to its schema."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        known: list[dict[str, Any]] = []
        for name in ("test.talking", "test.failing", "test.foreign"):
            messages = {"messages": [{"role": "user", "content": "hi"}]}
            data = messages if name == "test.foreign" else {"text": "Ada"}
            body = {"type": name, "data": data}
            answer = await http.post("/api/v1/events", params={"wait": 20}, json=body)
            known.append(answer.json())

    def calls() -> Iterator[Any]:
        for event in known:
            in_path = {"event_id": event["id"], "execution_id": event["execution_id"]}
            in_path["other_id"] = event["execution_id"]
            for method, path in OPERATIONS:
                of_one = "{event_id}" in path or "{execution_id}" in path
                if "/dead-letters/" in path:  # none of them is one; see test_dead_letters
                    continue
                # The one needs a body; the other is answered with 202, and later by an event.
                if of_one and not path.endswith(("/migrate", "/replay")):
                    yield schema[path][method].Case(path_parameters=in_path)
            pipeline = {"name": event["target"]}
            yield schema["/api/v1/pipelines/{name}"]["GET"].Case(path_parameters=pipeline)
            for path in ("/api/v1/events", "/api/v1/executions"):
                yield schema[path]["GET"].Case(query={"limit": 1})
            yield schema["/api/v1/events"]["POST"].Case(
                query={"wait": 20},
                body={"type": event["type"], "data": event["data"]},
                media_type="application/json",
            )

    def every() -> int:
        answered = [case.call_and_validate(checks=CONFORMANCE).status_code for case in calls()]
        assert set(answered) <= {200, 409}
        return answered.count(200)

    assert await asyncio.to_thread(every) >= len(known) * 7


async def test_the_document_loads_nothing_from_elsewhere(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        assert (await http.get("/docs")).status_code == 404
        assert (await http.get("/redoc")).status_code == 404
        assert "http" not in (await http.get("/")).text
