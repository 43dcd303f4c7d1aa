"""Recorders in processes of their own: killed, side by side, with and without a hub."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from holdfast import Recorder
from holdfast.api import create_api
from holdfast.client import Client
from holdfast.domain.ids import new_id
from holdfast.domain.recordings import Begun
from holdfast.journal.folder import orphans
from holdfast.journal.replay import recording_entry
from holdfast.recorder import delivery
from holdfast.store import migrations
from holdfast.store.lock import HubLock

from .api_server import api_parts, serving
from .conftest import HubForTests, OpenHub, until, until_true

SCRIPT = """
import sys, time
from pathlib import Path
from holdfast import Recorder

home, url, name, count, ready = sys.argv[1:]
recorder = Recorder(name, home=home, url=url or None)
for number in range(int(count)):
    with recorder.execution("task", input={"number": number}) as run:
        with run.step("judge", kind="model") as step:
            with step.provider_call(provider="openai", model="gpt-4o-mini", user="q") as call:
                call.answer("a", tokens_input=1000, tokens_output=100)
            step.validation("valid")
        run.output = number
open_one = recorder.initialize("open")
recorder.on_step_complete(open_one, recorder.on_step_start(open_one, "first"))
recorder.on_step_start(open_one, "second")
Path(ready).touch()
time.sleep(60)
"""


@asynccontextmanager
async def script(tmp_path: Path, url: str, name: str, count: int = 100) -> AsyncIterator[Any]:
    """Runs `SCRIPT` until it has recorded all, and then kills it."""
    ready = tmp_path / f"ready-{name}"
    home = str(tmp_path / "home")
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, home, url, name, str(count), ready])
    try:
        await until(ready)
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


async def listed(hub: HubForTests, status: str | None = None) -> list[Any]:
    async with served(hub) as client:
        found = [one async for one in client.executions(limit=100)]
    return [one for one in found if status is None or one["status"] == status]


@asynccontextmanager
async def served(hub: HubForTests, port: int = 0) -> AsyncIterator[Client]:
    async with serving(create_api(api_parts(hub.parts)), port) as url, Client(url) as client:
        yield client


def folders(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home").rglob("recorder-*"))


async def test_a_killed_script_is_there_after_the_next_start(
    tmp_path: Path, open_hub: OpenHub
) -> None:
    async with script(tmp_path, "", "killed"):
        pass
    async with open_hub(in_process=True) as hub:
        done = await listed(hub, "succeeded")
        assert len(done) == 100
        assert {one["cost_usd"] for one in done} == {"0.00021"}
        (crashed,) = await listed(hub, "crashed")
        whole = await hub.whole(crashed["id"])
        assert [str(step.status) for step in whole.steps] == ["succeeded", "failed"]
    assert not folders(tmp_path)


async def test_a_killed_script_is_at_the_hub_after_the_next_flush(
    tmp_path: Path, open_hub: OpenHub
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with script(tmp_path, url, "killed"):  # no hub answers
        pass
    async with open_hub(in_process=True, home=tmp_path / "other") as hub:
        async with served(hub, port):
            recorder = Recorder("next", home=tmp_path / "home", url=url)
            with recorder.execution("one more"):
                pass
            assert await asyncio.to_thread(recorder.flush, 20)
            recorder.close()
        assert len(await listed(hub, "succeeded")) == 101
        assert len(await listed(hub, "crashed")) == 1
    assert not folders(tmp_path)


@pytest.mark.parametrize("remote", [True, False])
async def test_a_script_that_ends_leaves_nothing_behind(
    tmp_path: Path, open_hub: OpenHub, remote: bool
) -> None:
    home = tmp_path / ("other" if remote else "home")
    async with open_hub(in_process=True, home=home) as hub, served(hub) as client:
        short = SCRIPT.partition("open_one")[0]
        told = [str(tmp_path / "home"), client.url if remote else "", "short", "10", "-"]
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-c", short, *told, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await done.communicate()
        assert (done.returncode, errors) == (0, b"")

        async def there() -> bool:
            return not folders(tmp_path)

        if not remote:
            await until_true(there)
        assert await there()
        assert len(await listed(hub, "succeeded")) == 10


async def test_two_processes_record_into_one_home_at_once(
    tmp_path: Path, open_hub: OpenHub
) -> None:
    async with open_hub(in_process=True) as hub:  # which has the store
        async with script(tmp_path, "", "a", 50), script(tmp_path, "", "b", 50):

            async def there() -> bool:
                return len(await listed(hub, "succeeded")) == 100

            await until_true(there)  # while both still live
        async with served(hub) as client:
            page = await client.events_page(limit=200)
        sources = [one["source"] for one in page["items"] if one["status"] == "succeeded"]
        assert sorted(set(sources)) == ["recorder:a", "recorder:b"]
        assert sources.count("recorder:a") == 50


async def test_without_a_hub_it_stores_by_itself(tmp_path: Path, open_hub: OpenHub) -> None:
    async with open_hub(in_process=True):
        pass  # makes the database
    recorder = Recorder("alone", home=tmp_path / "home")
    with recorder.execution("task", input="x"):
        pass
    assert await asyncio.to_thread(recorder.flush, 20)
    assert not folders(tmp_path)
    recorder.close()
    async with open_hub(in_process=True) as hub:
        (one,) = await listed(hub)
        assert (one["name"], one["status"], one["kind"]) == ("task", "succeeded", "recorded")


async def test_without_a_database_it_leaves_them_to_the_next_hub(tmp_path: Path) -> None:
    recorder = Recorder("alone", home=tmp_path / "home")
    with recorder.execution("task"):
        pass
    assert await asyncio.to_thread(recorder.flush, 20)
    recorder.close()
    assert len(folders(tmp_path)) == 1
    assert not (tmp_path / "home" / "holdfast.db").exists()


async def test_a_hub_that_starts_waits_for_a_recorder_that_stores(
    tmp_path: Path, open_hub: OpenHub
) -> None:
    lock = HubLock(tmp_path / "home", moment=True)
    asyncio.get_running_loop().call_later(0.2, lock.release)
    async with open_hub(in_process=True) as hub:
        assert await listed(hub) == []


async def test_a_hub_that_is_away_gets_them_when_it_is_back(
    tmp_path: Path, open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "BACKOFF_S", (0.05,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recorder = Recorder("patient", home=tmp_path / "home", url=f"http://127.0.0.1:{port}")
    with recorder.execution("task"):
        pass
    assert not await asyncio.to_thread(recorder.flush, 0.3)
    assert len(folders(tmp_path)) == 1
    async with open_hub(in_process=True, home=tmp_path / "other") as hub:
        async with served(hub, port):

            async def there() -> bool:
                return not folders(tmp_path)

            await until_true(there)  # without anybody asking
        assert len(await listed(hub, "succeeded")) == 1
    recorder.close()
    assert recorder.faults == 0


BURST = """
import sys, threading
from holdfast import Recorder

home, url, count = sys.argv[1:]
recorder = Recorder("burst", home=home, url=url or None)

def burst(first):
    for number in range(first, int(count), 8):
        with recorder.execution("task", input={"number": number}) as run:
            for name in ("one", "two", "three"):
                with run.step(name) as step:
                    step.output = "x" * 2000
            run.output = number

threads = [threading.Thread(target=burst, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(recorder.faults)
"""


async def burst(tmp_path: Path, url: str, count: int) -> int:
    """Records from eight threads as fast as they can, and ends as any script; its faults."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BURST, str(tmp_path / "home"), url, str(count)),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(25):
        told, _ = await process.communicate()
    assert process.returncode == 0
    return int(told)


async def outputs(hub: HubForTests) -> list[int]:
    async with served(hub) as client:
        found = [one async for one in client.executions(limit=100)]
    assert {(one["status"], one["step_counts"]["succeeded"]) for one in found} == {("succeeded", 3)}
    wholes = [await hub.whole(one["id"]) for one in found]
    return sorted(one.payload.get(one.execution.output) for one in wholes)


@pytest.mark.parametrize("there", [True, False])
async def test_a_burst_is_stored_whole_whether_the_hub_is_there_or_not(
    tmp_path: Path, open_hub: OpenHub, there: bool
) -> None:
    async with open_hub(in_process=True, home=tmp_path / "other") as hub:
        async with served(hub) as client:
            url = client.url
            assert not there or await burst(tmp_path, url, 500) == 0
        if not there:  # nobody listens
            assert await burst(tmp_path, url, 500) == 0
        async with served(hub, int(url.rpartition(":")[2])):
            later = Recorder("later", home=tmp_path / "home", url=url)
            with later.execution("last") as run:
                for name in ("one", "two", "three"):
                    with run.step(name):
                        pass
                run.output = 500
            assert await asyncio.to_thread(later.flush, 20)
            later.close()
        assert await outputs(hub) == list(range(501))
    assert not folders(tmp_path)


async def test_a_hub_that_takes_and_never_answers_holds_no_script_up(tmp_path: Path) -> None:
    """It waits no longer than `flush_s` at its end, whatever its deliveries still wait for."""
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        assert await burst(tmp_path, f"http://127.0.0.1:{port}", 50) == 0
        assert taken, "it tried"
    finally:
        for writer in taken:
            writer.close()
        server.close()
    (outbox,) = {folder.parent for folder in folders(tmp_path)}
    entries = [orjson.loads(one) for orphan in orphans(outbox) for one in orphan.entries()]
    kept = {entry["r"]["execution_id"] for entry in entries if "r" in entry}
    assert len(kept) == 50


async def test_what_a_hub_refuses_is_set_aside_and_the_rest_is_stored(
    tmp_path: Path, open_hub: OpenHub
) -> None:
    async with open_hub(in_process=True, home=tmp_path / "other") as hub, served(hub) as client:
        recorder = Recorder("test", home=tmp_path / "home", url=client.url)
        with recorder.execution("nul\x00"):
            pass
        with recorder.execution("good"):
            pass
        assert await asyncio.to_thread(recorder.flush, 20)
        recorder.close()
        assert [one["name"] for one in await listed(hub)] == ["good"]
    (aside,) = (tmp_path / "home").rglob("set-aside/*.ndjson")
    assert b"nul" in aside.read_bytes()
    assert not folders(tmp_path)


async def test_the_door_takes_the_same_twice_and_says_what_it_could_not_read(
    tmp_path: Path, open_hub: OpenHub
) -> None:
    recorder = Recorder("test", home=tmp_path / "spool", url="http://127.0.0.1:9")
    with recorder.execution("task", input=1):
        pass
    recorder._opened()[0].close()
    root = next((tmp_path / "spool" / "outbox").iterdir())
    (orphan,) = orphans(root)
    lines = [*orphan.entries(), b"{}", b"no json", b'{"b": {"claimed": {}}}']
    orphan.release()
    recorder._flush_s = 0.0
    recorder.close()
    async with open_hub(in_process=True) as hub, served(hub) as client:
        async with httpx.AsyncClient(base_url=client.url, trust_env=False) as http:
            for _ in range(2):
                answer = await http.post(
                    "/api/v1/recordings",
                    content=b"\n".join(lines),
                    headers={"content-type": "application/x-ndjson"},
                )
                assert answer.status_code == 200
                body = answer.json()
                assert (len(body["stored"]), body["refused"], body["faults"]) == (1, [], 3)
            wrong = await http.post("/api/v1/recordings", json={})
            assert wrong.status_code == 415
            junk = {"content-type": "application/x-ndjson"}
            none = await http.post("/api/v1/recordings", content=b"{}\n1", headers=junk)
            assert none.status_code == 422
        assert len(await listed(hub)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "waiting"},
        {"status": "superseded"},
        {"status": "gone"},
        {"at": "soon"},
        {"execution_id": "x"},
    ],
)
async def test_the_door_refuses_what_makes_no_sense(
    tmp_path: Path, open_hub: OpenHub, wrong: dict[str, Any]
) -> None:
    id_ = wrong.get("execution_id", new_id())
    begun = Begun(
        execution_id=id_,
        event_id=new_id(),
        owner_id="somebody else",
        name="task",
        version="1",
        source="recorder:test",
        data="1",
        traceparent=None,
        started_at=1,
    )
    end = {"k": "finished", "status": "succeeded", "at": 2, **wrong}
    end.pop("execution_id", None)
    lines = [recording_entry(begun), orjson.dumps({"x": id_, "c": end})]
    async with open_hub(in_process=True) as hub, served(hub) as client:
        async with httpx.AsyncClient(base_url=client.url, trust_env=False) as http:
            answer = await http.post(
                "/api/v1/recordings",
                content=b"\n".join(lines),
                headers={"content-type": "application/x-ndjson"},
            )
        assert answer.status_code == 200
        body = answer.json()
        assert ([one["code"] for one in body["refused"]], body["stored"]) == (["invalid_input"], [])
        assert await listed(hub) == []


def test_the_lock_of_a_hub_is_nobodys_moment(tmp_path: Path) -> None:
    migrations.upgrade(f"sqlite:///{tmp_path}/holdfast.db")
    lock = HubLock(tmp_path)
    recorder = Recorder("test", home=tmp_path)
    with recorder.execution("task"):
        pass
    assert recorder.flush(20)  # left to that hub
    recorder.close()
    lock.release()
    assert len(list((tmp_path / "journal").glob("recorder-*"))) == 1
