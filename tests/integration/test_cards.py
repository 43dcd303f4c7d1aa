"""Cards with a real hub and real runners: run, waited for, and asked how far they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.app import make_api
from holdfast.domain.events import LOCAL_OWNER
from holdfast.errors import NotFound
from holdfast.operations import read
from holdfast.operations.nodes import nodes_of
from holdfast.operations.resume import resume
from holdfast.pipelines.registry import Registry
from holdfast.store.queries import ListExecutions
from holdfast.testing.postgres import PostgresForTests

from .conftest import HubForTests, OpenHub, until, until_true

ALL = [
    *("gate", "stock", "credit", "both", "price", "prices", "quote", "quote.sum", "quote.told"),
    *("approve", "paid", "too_much", "quote.route", "approve.route"),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def hub_environ(
    request: pytest.FixtureRequest, hub_environ: dict[str, str], postgres: PostgresForTests
) -> dict[str, str]:
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    return hub_environ | {
        "HOLDFAST_APPS": "cards_app,langgraph_app:loop",
        "HOLDFAST_MODELS": '{"standard": "scripted:rules"}',
    }


async def progress(hub: HubForTests, execution_id: str) -> dict[str, Any]:
    return await nodes_of(hub.kit, execution_id, LOCAL_OWNER)


def standing(view: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["status"] for one in view["nodes"]}


async def started(hub: HubForTests, folder: Path, *parts: str) -> tuple[str, str]:
    event = await hub.submit("cards.order", folder=str(folder), parts=list(parts))
    await until(folder / "here")
    return event, (await hub.executions(event))[0].id


@pytest.mark.parametrize("in_process", [False, True])
async def test_which_step_is_done_can_be_asked_at_any_time(
    open_hub: OpenHub, tmp_path: Path, in_process: bool
) -> None:
    async with open_hub(runners=1, in_process=in_process) as hub:
        event, execution = await started(hub, tmp_path, "bolt", "nut")

        running = await progress(hub, execution)
        assert (running["status"], running["declared"]) == ("running", True)
        assert standing(running) == dict.fromkeys(ALL, "pending") | {"gate": "running"}

        (tmp_path / "go").touch()
        await until_true(lambda: waits(hub, execution))
        waiting = await progress(hub, execution)
        assert standing(waiting) == {
            **dict.fromkeys(ALL, "succeeded"),
            "credit": "failed",
            "approve": "waiting",
            "approve.route": "pending",
            "paid": "pending",
            "too_much": "pending",
        }
        rows = {one["name"]: one for one in waiting["nodes"]}
        assert rows["credit"]["error"]["message"] == "the bank does not answer"
        assert rows["credit"]["group"] == "both"
        assert (rows["price"]["runs"], rows["price"]["outcomes"]) == (2, {"succeeded": 2})
        assert rows["approve"]["kind"] == "human"

        await resume(hub.kit, execution, LOCAL_OWNER, answer={"yes": True})
        ended = await hub.ended(event)
        assert ended.execution_id == execution
        whole = await hub.whole(execution)
        assert whole.execution.status == "partial"
        assert whole.payload.get(whole.execution.output) == {"paid": 70, "first": 40}
        done = await progress(hub, execution)
        assert standing(done) == {
            **dict.fromkeys(ALL, "succeeded"),
            "credit": "failed",
            "too_much": "not_run",
        }
        with pytest.raises(NotFound):
            await nodes_of(hub.kit, execution, "somebody else")


async def waits(hub: HubForTests, execution: str) -> bool:
    whole = await hub.whole(execution)
    assert whole.execution.status in ("running", "waiting"), whole.execution.error
    return whole.execution.status == "waiting" and hub.kit.journal.get(execution) is None


async def test_a_card_goes_on_after_a_restart(open_hub: OpenHub, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    async with open_hub(runners=1) as hub:
        event, execution = await started(hub, tmp_path, "bolt", "nut")
        await until_true(lambda: waits(hub, execution))
    async with open_hub(runners=1) as hub:
        assert standing(await progress(hub, execution))["approve"] == "waiting"
        await resume(hub.kit, execution, LOCAL_OWNER, answer={"yes": True})
        await hub.ended(event)
        whole = await hub.whole(execution)
        assert whole.payload.get(whole.execution.output) == {"paid": 70, "first": 40}
        operations = [step.operation for step in whole.steps]
        assert operations.count("gate") == operations.count("quote") == 1


async def test_a_branch_not_taken_is_not_run(open_hub: OpenHub, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    async with open_hub(runners=1) as hub:
        event, execution = await started(hub, tmp_path, "a very long name indeed")
        await hub.ended(event)
        stands = standing(await progress(hub, execution))
        assert stands["too_much"] == "succeeded"
        assert {stands[name] for name in ("approve", "approve.route", "paid")} == {"not_run"}
        decided = next(s for s in (await hub.whole(execution)).steps if s.kind == "router")
        assert decided.operation == "quote.route"


@pytest.mark.parametrize("in_process", [False, True])
async def test_a_spent_budget_ends_the_execution(open_hub: OpenHub, in_process: bool) -> None:
    async with open_hub(runners=1, in_process=in_process) as hub:
        event, whole = await hub.run("cards.spending", text="word " * 100)
        assert (event.status, whole.execution.status) == ("failed", "failed")
        error = whole.execution.error or {}
        assert error["code"] == "budget_exceeded"
        assert "the budget of an execution of cards.spending" in error["message"]
        assert [one.usage for one in whole.attempts] == ["estimated", "none"]
        event, whole = await hub.run("cards.spending", text="w")
        assert whole.execution.status == "succeeded"
        assert len(whole.attempts) == 2


async def test_a_foreign_graph_tells_its_nodes_too(open_hub: OpenHub) -> None:
    async with open_hub(in_process=True) as hub:
        event, _ = await hub.run("langgraph_app.loop", joke="cats")
        view = await progress(hub, event.execution_id or "")
        assert standing(view) == dict.fromkeys(("tell", "grade", "inner:polish"), "succeeded")
        assert [one["runs"] for one in view["nodes"]] == [2, 2, 1]


async def test_it_is_asked_over_http(open_hub: OpenHub, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    async with open_hub(in_process=True) as hub:
        event, execution = await started(hub, tmp_path, "a very long name indeed")
        await hub.ended(event)
        transport = httpx.ASGITransport(app=make_api(hub.parts))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8001/api/v1"
        ) as http:
            found = (await http.get(f"/executions/{execution}/progress")).json()
            assert standing(found)["quote.sum"] == "succeeded"
            assert found["links"]["event"] == f"/api/v1/events/{event}"
            wrong = await http.get(f"/executions/{execution}/progress", params={"x": 1})
            assert wrong.status_code == 422
            assert (await http.get(f"/executions/{event}/progress")).status_code == 404


async def test_a_version_that_is_not_loaded_shows_what_ran(
    open_hub: OpenHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "go").touch()
    async with open_hub(in_process=True) as hub:
        _, execution = await started(hub, tmp_path, "bolt")
        await until_true(lambda: waits(hub, execution))
        declaration = hub.kit.registry.get("cards.order")
        monkeypatch.setattr(declaration, "version", "2")
        found = await progress(hub, execution)
        assert found["declared"] is False
        assert standing(found) == {
            **{name: "succeeded" for name in ALL[:9] if name != "credit"},
            "credit": "failed",
            "quote.route": "succeeded",
            "approve": "waiting",
        }


def test_a_broken_card_leaves_its_app_out_and_names_every_fault(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "broken_cards").mkdir()
    (tmp_path / "broken_cards" / "a.yaml").write_text(
        'name: broken\nversion: "1"\nevent: {}\nsteps:\n'
        "  a: {complete: '${x}'}\n  b: {complete: 1}\n"
    )
    (tmp_path / "broken_cards_app.py").write_text(
        "from pathlib import Path\nfrom holdfast import load_cards\n"
        "cards = load_cards(Path(__file__).parent / 'broken_cards')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.load(["broken_cards_app", "cards_app"])
    assert {one.name for one in registry} == {
        "cards.order",
        "cards.quote",
        "cards.sending",
        "cards.spending",
    }
    (failure,) = registry.failures
    assert "a.yaml:5:18: ${x}: there is no step" in failure.error.message
    assert "a.yaml:6:3" in failure.error.message


async def test_a_subprocess_can_be_an_execution_of_its_own(open_hub: OpenHub) -> None:
    async with open_hub(runners=1) as hub:
        event, whole = await hub.run("cards.sending", parts=["bolt", "nut"])
        assert (event.status, whole.payload.get(whole.execution.output)) == (
            "succeeded",
            {"much": 70},
        )
        (child,) = await read.executions(
            hub.kit, ListExecutions(owner_id=LOCAL_OWNER, parent_id=whole.execution.id, limit=10)
        )
        assert (child.name, child.origin, child.status) == ("cards.quote", "child", "succeeded")
        assert "sum" not in {step.operation for step in whole.steps}, "its steps are its own"
