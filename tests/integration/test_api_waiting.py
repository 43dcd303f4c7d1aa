"""Waits over HTTP: shown, answered once, refused with a reason."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from holdfast.app import make_api

from .conftest import OpenHub, until_true


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {
        "HOLDFAST_APPS": "waiting_app",
        "HOLDFAST_MODELS": '{"fast": "scripted:rules"}',
    }


async def test_a_wait_is_shown_answered_once_and_refused_afterwards(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(in_process=True) as hub:
        transport = httpx.ASGITransport(app=make_api(hub.parts))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8001/api/v1"
        ) as http:
            sent = await http.post(
                "/events",
                json={"type": "wait.buying", "data": {"item": "tea", "folder": str(tmp_path)}},
            )
            event = sent.json()["links"]["event"].rpartition("/")[2]

            async def waits() -> bool:
                return (await http.get(f"/events/{event}")).json()["status"] == "waiting"

            await until_true(waits)
            execution = (await http.get(f"/events/{event}")).json()["execution_id"]
            shown = (await http.get(f"/executions/{execution}")).json()
            assert [wait["question"] for wait in shown["waits"]] == ["Buy it for 3?"]
            path = f"/executions/{execution}/resume"

            wrong = await http.post(path, json={"answer": {"yes": "?"}})
            assert wrong.status_code == 422
            assert wrong.json()["errors"][0]["field"] == "answer.yes"
            assert (await http.post(path, json={"anser": 1})).status_code == 422
            assert (await http.post(path)).status_code == 422, "it waits for an answer"
            paused = await http.post(f"/executions/{execution}/pause")
            assert (paused.status_code, paused.json()["code"]) == (409, "illegal_move")
            gone = await http.post(f"/executions/{execution}/migrate", json={"version": "9"})
            assert (gone.status_code, gone.json()["code"]) == (409, "version_gone")

            first = await http.post(path, json={"answer": {"yes": True}})
            assert (first.status_code, first.json()["status"]) == (202, "queued")
            second = await http.post(path, json={"answer": {"yes": False}})
            assert second.status_code == 409
            ended = (await http.get(f"/events/{event}", params={"wait": 10})).json()
            assert ended["result"]["output"]["bought"] is True


async def test_many_and_whole_pipelines_over_http(open_hub: OpenHub) -> None:
    async with open_hub(in_process=True) as hub:
        transport = httpx.ASGITransport(app=make_api(hub.parts))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8001/api/v1"
        ) as http:
            paused = await http.post("/pipelines/wait.hasty/pause")
            assert paused.json() == {"matched": 0, "done": 0, "refused": []}
            for _ in range(2):
                await http.post("/events", json={"type": "wait.hasty", "data": {}})
            counted = await http.post("/pipelines/wait.hasty/cancel", json={"dry_run": True})
            assert counted.json()["matched"] == 2
            done = await http.post("/pipelines/wait.hasty/cancel")
            assert done.json()["done"] == 2
            body = {"filter": {"pipeline": "wait.hasty", "status": "succeeded"}}
            assert (await http.post("/executions/cancel", json=body)).status_code == 422
            assert (await http.post("/executions/explode", json=body)).status_code == 422
            assert (await http.post("/pipelines/nothing/pause")).status_code == 404
