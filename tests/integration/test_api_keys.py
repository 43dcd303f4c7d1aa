"""API keys at every door: who comes in, what they may do, and that owners never mix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter
from fastapi.routing import APIRoute

import holdfast
from holdfast import settings
from holdfast.api import (
    agent_sse,
    agents,
    application,
    breakers,
    budgets,
    collections,
    context_cache,
    create_api,
    dead_letters,
    events,
    executions,
    hubs,
    keys,
    pipelines,
    prompts,
    recordings,
    retention,
    schedules,
    schemas,
    sessions,
    system,
    usage,
)
from holdfast.api.doorkeeper import OPEN, OPEN_PATHS, Door, KeyCheck, needed
from holdfast.api.in_process import InProcessTransport
from holdfast.app import make_api, run_hub
from holdfast.client import Client
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.keys import Scope, new_secret
from holdfast.errors import Forbidden, NotAuthenticated, NotFound, SettingsError
from holdfast.operations import keyring
from holdfast.operations.keys import all_keys, create_key, revoke_key
from holdfast.store import migrations

from .api_server import api_parts, hub_at
from .conftest import TIMEOUT_S, HubForTests, until, until_true

BASE = "http://127.0.0.1"

ROUTES = [
    route
    for room in (
        events,
        dead_letters,
        retention,
        executions,
        keys,
        hubs,
        pipelines,
        breakers,
        context_cache,
        prompts,
        recordings,
        schedules,
        collections,
        usage,
        budgets,
        agent_sse,
        agents,
        sessions,
        system,
    )
    for route in room.router.routes
    if isinstance(route, APIRoute)
]

AGENT = {"simple": {"settings": {"model": "fast", "system_prompt": "private"}}}

BODIES = {
    "/api/v1/pipelines/{name}/estimate": {"data": {}},
    "/api/v1/budgets": {"scope": "owner", "unit": "tokens", "amount": "1"},
    "/api/v1/executions/{execution_id}/migrate": {"version": "1"},
    "/api/v1/executions/{verb}": {"filter": {}},
    "/api/v1/prompts": {"name": "of.another", "source": "{{ event }}"},
    "/api/v1/prompts/{name:path}/labels/{label}": {"version": "file"},
    "/api/v1/schedules/{name}": {"cron": "* * * * *", "pipeline": "test.noop", "data": {}},
    "/api/v1/collections/{name}/documents": {"key": "k", "text": "t"},
    "/api/v1/collections/{name}/search": {"query": "q"},
    "/api/v1/agents": {"name": "another", "config": AGENT},
    "/api/v1/agents/{ref}": {"config": AGENT},
    "/api/v1/agents/{ref}/messages": {"text": "hello"},
    "/api/v1/sessions": {"agent": "helper"},
    "/api/v1/sessions/{session_id}": {"title": "mine"},
    "/api/v1/sessions/{session_id}/messages/{message_id}/feedback": {"feedback": "like"},
    "/api/v1/dead-letters/replay": {"filter": {}},
    "/api/v1/dead-letters/discard": {"filter": {}, "reason": "no more"},
    "/api/v1/dead-letters/{event_id}": {"data": {}},
    "/api/v1/dead-letters/{event_id}/discard": {"reason": "no more"},
}
"""What routes need that look into their body before anything else."""

DOORS = [(method, route) for route in ROUTES for method in sorted(route.methods)]


def path_of(route: APIRoute, **values: str) -> str:
    unknown = {"event_id": new_id(), "execution_id": new_id(), "key_id": "unknown", "name": "x"}
    unknown["verb"] = "cancel"
    unknown["budget_id"] = new_id()
    unknown["other_id"] = new_id()
    unknown |= {"ref": "x", "session_id": new_id(), "message_id": new_id()}
    unknown |= {"label": "production", "version": "x"}
    if route.path.endswith("/versions/{version}") and "{ref}" in route.path:
        unknown["version"] = "1"
    return route.path_format.format(**(unknown | values))


def named(door: Any) -> str:
    return door.path if isinstance(door, APIRoute) else door


class Doors:
    """A hub, keys to it, and requests with them."""

    def __init__(self, hub: HubForTests, http: httpx.AsyncClient) -> None:
        self.hub = hub
        self.http = http
        self.keyring = hub.parts.keyring

    async def key(self, owner: str = "local", *scopes: Scope, **fields: Any) -> str:
        _, secret = await create_key(
            self.hub.kit.store, name="test", owner=owner, scopes=scopes or tuple(Scope), **fields
        )
        await self.keyring.refresh()
        return secret

    async def ask(self, method: str, path: str, key: str | None, **rest: Any) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return await self.http.request(method, path, headers=headers, **rest)

    def client(self, key: str | None) -> Client:
        transport = InProcessTransport(create_api(api_parts(self.hub.parts)))
        return Client(BASE, key=key, transport=transport)


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Doors]:
    async with hub_at(home) as hub:
        transport = InProcessTransport(create_api(api_parts(hub.parts)))
        async with httpx.AsyncClient(base_url=BASE, transport=transport) as http:
            yield Doors(hub, http)


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with opened(tmp_path) as fresh:
        yield fresh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    """One hub for the tests that try every route."""
    async with opened(tmp_path_factory.mktemp("home")) as one:
        yield one


# -- who comes in ----------------------------------------------------------------------------


async def test_without_keys_a_hub_on_loopback_is_open_but_makes_no_first_key(doors: Doors) -> None:
    assert (await doors.ask("GET", "/api/v1/events", None)).status_code == 200
    body = {"name": "mine", "owner": "local", "scopes": ["admin"]}
    refused = await doors.ask("POST", "/api/v1/keys", None, json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "holdfast keys create" in refused.json()["hint"]
    assert await all_keys(doors.hub.kit.store) == []


@pytest.mark.parametrize(("method", "route"), DOORS, ids=named)
@pytest.mark.asyncio(loop_scope="module")
async def test_with_a_key_no_route_but_the_probes_opens_without_one(
    shared: Doors, method: str, route: APIRoute
) -> None:
    key = await shared.key("local", Scope.READ)
    for wrong in (None, new_secret(), key[:-1] + ("a" if key[-1] != "a" else "b")):
        answer = await shared.ask(method, path_of(route), wrong)
        if route.path in OPEN_PATHS:
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/openapi.json", "/nothing", "/healthz/", "/api/v1/events/"])
async def test_paths_without_a_route_of_ours_are_shut_too(doors: Doors, path: str) -> None:
    await doors.key()
    assert (await doors.ask("GET", path, None)).status_code == 401


async def test_a_websocket_without_a_key_is_closed(doors: Doors) -> None:
    await doors.key()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    guarded = KeyCheck(None, keyring=doors.keyring, trusted=False)  # type: ignore[arg-type]
    await guarded({"type": "websocket", "path": "/ws", "headers": []}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_both_headers_show_a_key_but_not_at_once(doors: Doors) -> None:
    key = await doors.key()

    async def status(*headers: tuple[str, str]) -> int:
        return (await doors.http.get("/api/v1/events", headers=list(headers))).status_code

    assert await status(("X-API-Key", key)) == 200
    assert await status(("Authorization", f"bearer {key}")) == 200
    assert await status(("X-API-Key", key), ("Authorization", f"Bearer {key}")) == 401
    assert await status(("X-API-Key", key), ("X-API-Key", key)) == 401
    assert await status(("Authorization", f"Basic {key}")) == 401
    assert await status(("X-API-Key", "")) == 401


async def test_a_failed_try_does_not_tell_whether_the_key_exists(doors: Doors) -> None:
    good = await doors.key()
    expired = await doors.key(expires_at=now_us() + 50_000)
    revoked = await doors.key()
    await revoke_key(doors.hub.kit.store, revoked[3:11])
    await doors.keyring.refresh()
    await until_true(lambda: _refused(doors, expired))
    tries = [good[:11] + new_secret()[11:], new_secret(), "x", revoked, expired]
    answers = {(await doors.ask("GET", "/", wrong)).text for wrong in tries}
    assert len(answers) == 1
    assert doors.hub.kit.metrics.get(keyring.REFUSED) >= len(tries)


async def _refused(doors: Doors, key: str) -> bool:
    return (await doors.ask("GET", "/", key)).status_code == 401


async def test_a_wrong_key_is_refused_even_where_none_is_needed(doors: Doors) -> None:
    assert (await doors.ask("GET", "/api/v1/events", new_secret())).status_code == 401


async def test_an_expired_key_keeps_the_hub_shut(doors: Doors) -> None:
    key = await doors.key(expires_at=now_us() + 50_000)
    await until_true(lambda: _refused(doors, key))
    await doors.keyring.refresh()
    assert (await doors.ask("GET", "/", None)).status_code == 401


# -- what they may do ------------------------------------------------------------------------


def test_every_route_declares_its_scope() -> None:
    assert {route.path for route in ROUTES if needed(route) is None} == OPEN_PATHS
    changing = {route.path for m, route in DOORS if m != "GET" and "keys" not in route.path}
    assert {needed(route) for route in ROUTES if route.path in changing} >= {"write"}
    for method, route in DOORS:
        everybodys = any(part in route.path for part in ("/keys", "/hubs"))
        set_for_all = any(part in route.path for part in ("/breakers", "/budgets"))
        # Their tools and graphs are code of the hub's machine.
        code = route.path.endswith("/rollback") and "/agents/" in route.path
        code = code or (route.path in ("/api/v1/agents", "/api/v1/agents/{ref}"))
        if everybodys or ((set_for_all or code) and method != "GET"):
            assert needed(route) == "admin"
        elif method != "GET" and not route.path.endswith(("/search", "/estimate")):  # store nothing
            assert needed(route) == "write"


@pytest.mark.parametrize("extra", [None, {}, OPEN])
async def test_an_application_with_an_undeclared_route_is_not_made(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, extra: Any
) -> None:
    with pytest.raises(TypeError, match="/forgotten"):
        APIRouter(route_class=Door).add_api_route("/forgotten", print, openapi_extra=extra)
    unguarded = APIRouter()
    unguarded.add_api_route("/forgotten", print, openapi_extra=extra)
    monkeypatch.setattr(application.pipelines, "router", unguarded)
    with pytest.raises(TypeError, match="/forgotten"):
        create_api(api_parts(doors.hub.parts))


@pytest.mark.parametrize(("method", "route"), DOORS, ids=named)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_route_lets_its_scope_in_and_no_other(
    shared: Doors, method: str, route: APIRoute
) -> None:
    wanted = needed(route)
    for scope in Scope:
        answer = await shared.ask(method, path_of(route), await shared.key("local", scope))
        if wanted in (None, scope):
            assert answer.status_code not in (401, 403), answer.text
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert f"scope {wanted}" in answer.json()["detail"]


async def test_the_document_names_the_scope_of_each_door(doors: Doors) -> None:
    document = (await doors.ask("GET", "/openapi.json", await doors.key())).json()
    cancel = document["paths"]["/api/v1/events/{event_id}/cancel"]["post"]
    assert cancel["security"] == [{"bearer": ["write"]}, {"header": ["write"]}]
    assert {"401", "403"} <= cancel["responses"].keys()
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "401" not in document["paths"]["/healthz"]["get"]["responses"]
    assert document["components"]["securitySchemes"].keys() == {"bearer", "header"}


# -- keys over HTTP --------------------------------------------------------------------------


async def test_an_administrator_makes_lists_and_revokes_keys(doors: Doors) -> None:
    async with doors.client(await doors.key("root", Scope.ADMIN)) as admin:
        made = await admin.create_key("ci", owner="team-a", scopes=["write", "read"])
        assert (made["owner"], made["scopes"]) == ("team-a", ["read", "write"])
        listed = (await admin.keys())["items"]
        assert [one["name"] for one in listed] == ["ci", "test"]
        schemas.CreatedKey.model_validate(made)
        schemas.KeyList.model_validate(await admin.keys())
        assert made["key"] not in str(listed)
        assert "hash" not in listed[0]
        async with doors.client(made["key"]) as team:
            await team.submit("test.noop", {}, wait=TIMEOUT_S)
            with pytest.raises(Forbidden, match="admin"):
                await team.keys()
            await admin.revoke_key(made["id"])
            with pytest.raises(NotAuthenticated):
                await team.events_page()
        assert (await admin.revoke_key(made["prefix"]))["revoked_at"] is not None
        with pytest.raises(NotFound):
            await admin.revoke_key(new_id())
        with pytest.raises(Forbidden, match="read"):
            await admin.events_page()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", []),
        ("scopes", ["root"]),
        ("name", ""),
        ("name", "a\nb"),
        ("owner", " "),
        ("owner", "x" * 101),
        ("expires_at", "2020-01-01T00:00:00Z"),
        ("expires_at", "soon"),
        ("secret", "mine"),
    ],
)
async def test_a_wrong_wish_makes_no_key(doors: Doors, field: str, value: Any) -> None:
    key = await doors.key()
    body = {"name": "ci", "owner": "team-a", "scopes": ["read"], field: value}
    answer = await doors.ask("POST", "/api/v1/keys", key, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith(field)
    assert len(await all_keys(doors.hub.kit.store)) == 1


async def test_a_stream_ends_when_its_key_is_revoked(doors: Doors, tmp_path: Path) -> None:
    key = await doors.key("team-a")
    async with doors.client(key) as client:
        event = await client.submit("test.gated", {"folder": str(tmp_path)})
        await until(tmp_path / "pid-1")
        execution_id = (await client.event(event["id"]))["execution_id"]
        async with doors.http.stream(
            "GET", f"/api/v1/executions/{execution_id}/stream", headers={"X-API-Key": key}
        ) as answer:
            lines = answer.aiter_lines()
            assert "id: " in await anext(lines)
            await revoke_key(doors.hub.kit.store, key[3:11])
            await doors.keyring.refresh()
            async with asyncio.timeout(TIMEOUT_S):
                rest = [line async for line in lines]
        assert not any("execution.finished" in line for line in rest)
    (tmp_path / "open").touch()


# -- owners ----------------------------------------------------------------------------------


IDS = ("event_id", "execution_id")


@pytest.mark.parametrize(("method", "route"), DOORS, ids=named)
@pytest.mark.asyncio(loop_scope="module")
async def test_no_route_shows_or_touches_what_is_another_owners(
    shared: Doors, tmp_path: Path, method: str, route: APIRoute
) -> None:
    async with shared.client(await shared.key("team-a")) as mine:
        running = await mine.submit("test.gated", {"text": "private", "folder": str(tmp_path)})
        await until(tmp_path / "pid-1")
        execution_id = (await mine.event(running["id"]))["execution_id"]
        ended = await mine.submit("test.noop", {"text": "private"}, wait=TIMEOUT_S)
        before = [await mine.event(one["id"]) for one in (running, ended)]

        theirs = await shared.key("team-b", Scope.READ, Scope.WRITE)
        things = ((running["id"], execution_id), (ended["id"], ended["execution_id"]))
        for ids in things:
            path = path_of(route, **dict(zip(IDS, ids, strict=True)), name="test.noop")
            body = BODIES.get(route.path)
            answer = await shared.ask(method, path, theirs, **({"json": body} if body else {}))
            shown = answer.text
            if any(f"{{{name}}}" in route.path for name in IDS):
                assert answer.status_code == 404, shown
                for known in path.split("/"):  # an id they name is repeated to them
                    shown = shown.replace(known, "") if known in ids else shown
            assert not any(id_ in shown for pair in things for id_ in pair)
            assert "private" not in shown

        assert [await mine.event(one["id"]) for one in (running, ended)] == before
        (tmp_path / "open").touch()
        assert (await mine.wait(running["id"], TIMEOUT_S))["status"] == "succeeded"


WITH_BODY = ("POST", "PUT", "PATCH")

TALKS = [(method, route) for method, route in DOORS if {"agents", "sessions"} & set(route.tags)]


@pytest.mark.parametrize(("method", "route"), TALKS, ids=named)
@pytest.mark.asyncio(loop_scope="module")
async def test_nobody_sees_or_touches_another_owners_agents_and_what_is_said_to_them(
    shared: Doors, method: str, route: APIRoute
) -> None:
    mine, theirs = await shared.key("team-a"), await shared.key("team-b")

    async def my(method: str, path: str, **rest: Any) -> Any:
        answer = await shared.ask(method, f"/api/v1{path}", mine, **rest)
        assert answer.is_success, answer.text
        return answer.json()

    agent = await my("PUT", "/agents/helper", json={"config": AGENT})
    await my("POST", "/agents/helper/stop")
    said = await my("POST", "/agents/helper/messages", json={"text": "private"})
    session = f"/sessions/{said['session_id']}"

    async def everything() -> list[Any]:
        paths = ("/agents/helper", "/agents/helper/versions", session, f"{session}/messages")
        return [await my("GET", path) for path in paths]

    before = await everything()
    ids = {"session_id": said["session_id"], "message_id": said["message_id"]}
    for ref in ("helper", agent["id"]):
        path = path_of(route, ref=ref, **ids)
        query = {"session_id": said["session_id"]} if path.endswith("/sse") else {}
        query |= {"a": 1, "b": 1} if path.endswith("/diff") else {}
        body = BODIES.get(route.path)
        rest = {"params": query} | ({"json": body} if body and method in WITH_BODY else {})
        answer = await shared.ask(method, path, theirs, **rest)
        by_name = route.path == "/api/v1/agents/{ref}" and method == "PUT" and ref == "helper"
        made_their_own = by_name or route.path == "/api/v1/agents"
        if "{" in route.path and not made_their_own:
            assert answer.status_code == 404, answer.text
        assert said["id"] not in answer.text
        if not made_their_own:
            assert "private" not in answer.text
        assert await everything() == before
    await shared.ask("DELETE", "/api/v1/agents/helper", theirs)  # the one they may have made


async def test_owners_share_no_idempotency_keys_and_several_keys_share_an_owner(
    doors: Doors,
) -> None:
    first, second, other = [await doors.key(owner) for owner in ("team-a", "team-a", "team-b")]
    async with doors.client(first) as one, doors.client(second) as two, doors.client(other) as foe:
        event = await one.submit("test.noop", {"text": "1"}, idempotency_key="same", wait=20)
        again = await two.submit("test.noop", {"text": "1"}, idempotency_key="same")
        assert (again["id"], again["created"]) == (event["id"], False)
        theirs = await foe.submit("test.noop", {"text": "2"}, idempotency_key="same", wait=20)
        assert theirs["created"]
        assert [one["id"] async for one in foe.events()] == [theirs["id"]]
        assert [one["event_id"] async for one in foe.executions()] == [theirs["id"]]
        filtered = foe.executions(event_id=event["id"])
        assert [one async for one in filtered] == []


async def test_what_a_run_sends_belongs_to_its_owner(doors: Doors) -> None:
    async with doors.client(await doors.key("team-a")) as mine:
        await mine.submit("test.sending", {}, wait=TIMEOUT_S)
        assert len([one async for one in mine.events()]) == 2
    async with doors.client(await doors.key("team-b")) as theirs:
        assert [one async for one in theirs.events()] == []


# -- the keyring -----------------------------------------------------------------------------


async def test_no_request_asks_the_database_for_its_key(doors: Doors) -> None:
    key = await doors.key()
    before = doors.hub.kit.store.statements["AllKeys"]
    for _ in range(20):
        assert (await doors.ask("GET", "/api/v1/pipelines", key)).status_code == 200
    assert doors.hub.kit.store.statements["AllKeys"] == before


async def test_changes_made_elsewhere_and_last_uses_come_with_the_sweep(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await doors.key()
    assert (await doors.ask("GET", "/", key)).status_code == 200
    await doors.keyring.tidy()
    (stored,) = await all_keys(doors.hub.kit.store)
    assert stored.last_used_at is not None
    await revoke_key(doors.hub.kit.store, stored.id)
    monkeypatch.setattr(keyring, "SWEEP_S", 0.01)
    sweeping = keyring.Keyring(doors.hub.kit.store, doors.hub.kit.metrics)
    await create_key(doors.hub.kit.store, name="x", owner="y", scopes=[Scope.READ])
    sweeping.start()

    async def swept() -> bool:
        return sweeping.guarded

    await until_true(swept)
    await sweeping.close()


# -- where the hub may listen ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("HOLDFAST_HOST", "0.0.0.0"), ("HOLDFAST_ALLOWED_HOSTS", "hub.example.org")],
)
async def test_a_hub_that_others_reach_does_not_start_without_a_key(
    hub_environ: dict[str, str], name: str, value: str
) -> None:
    made = settings.load(environ={**hub_environ, name: value})
    await asyncio.to_thread(migrations.upgrade, made.store_url)
    with pytest.raises(SettingsError, match=f"{name}: {value}.*holdfast keys create"):
        async with run_hub(made):
            pass


async def test_a_hub_that_others_reach_answers_to_its_names_and_stays_shut(
    hub_environ: dict[str, str],
) -> None:
    more = {"HOLDFAST_HOST": "10.1.2.3", "HOLDFAST_ALLOWED_HOSTS": "Hub.example.org"}
    made = settings.load({"runners": 1}, environ={**hub_environ, **more})
    async with hub_at(made.home) as hub:
        key, secret = await create_key(hub.kit.store, name="x", owner="local", scopes=[Scope.READ])
    async with run_hub(made) as parts:
        transport = InProcessTransport(make_api(parts))
        async with httpx.AsyncClient(transport=transport, headers={"X-API-Key": secret}) as http:
            for host, status in (
                ("10.1.2.3:8001", 200),
                ("hub.example.org", 200),
                ("localhost", 200),
                ("evil.example", 421),
            ):
                answer = await http.get(f"{BASE}/", headers={"host": host})
                assert answer.status_code == status, host
            await revoke_key(parts.kit.store, key.id)
            await parts.keyring.refresh()
            del http.headers["X-API-Key"]
            assert (await http.get(f"{BASE}/")).status_code == 401


async def test_inside_the_process_that_holds_the_store_no_key_is_needed(
    hub_environ: dict[str, str],
) -> None:
    made = settings.load(environ=hub_environ)
    async with hub_at(made.home) as hub:
        _, secret = await create_key(hub.kit.store, name="x", owner="team-a", scopes=[Scope.READ])
    async with holdfast.connect(made) as client:
        await client.submit("test.noop", {}, wait=TIMEOUT_S)
    owned = made.model_copy(update={"key": secret})
    async with holdfast.connect(owned, read_only=True) as client:
        assert [one async for one in client.events()] == []
        with pytest.raises(Forbidden, match="write"):
            await client.submit("test.noop", {})
