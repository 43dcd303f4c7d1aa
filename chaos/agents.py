"""`python -m chaos.agents [--seconds N] [--seed N]`: agents are killed at random under load.

Each is to be back within a second, no message lost or answered twice, the order kept. Then one
that dies at start is to end in `error`, whoever asks for its status, and to answer what waited
once it was mended and started again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from . import talk
from .driver import PATIENCE_S, Sender, kill
from .matrix import in_a_folder
from .places import Place, place

AGENTS = 6
SESSIONS = 4
BACK_S = 1.0
KILL_EVERY_S = (0.4, 1.2)
TURN_MS = (20, 400)
_POLL_S = 0.02
_API = "/api/v1/agents"


@dataclass(slots=True)
class Seen:
    """What was done, and what was found."""

    sent: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # by session
    kills: int = 0
    in_turn: int = 0  # executions that crashed
    back_s: list[float] = field(default_factory=list[float])
    faults: list[str] = field(default_factory=list[str])


def main() -> int:
    """Run it, print what was found; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m chaos.agents", description=__doc__)
    parser.add_argument("--place", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=120.0, help="of killing")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with place(asked.place) as there:
        seen = asyncio.run(run(there, asked.seconds, asked.seed))
    table = Table(title=f"agents on {asked.place}, {asked.seconds:g} s, seed {asked.seed}")
    for name in ("turns", "killed", "turns run again", "back after, median", "longest", "promises"):
        table.add_column(name, justify="left" if name == "promises" else "right")
    back = sorted(seen.back_s)
    table.add_row(
        str(sum(map(len, seen.sent.values()))),
        str(seen.kills),
        str(seen.in_turn),
        f"{back[len(back) // 2]:.2f} s" if back else "",
        f"{back[-1]:.2f} s" if back else "",
        "\n".join(seen.faults) or "kept",
    )
    Console().print(table)
    return int(bool(seen.faults))


async def run(there: Place, seconds: float, seed: int) -> Seen:
    """Talk to some agents and kill them; then look at what is on record."""
    seen, chance = Seen(), random.Random(seed)
    async with in_a_folder(there, HOLDFAST_ROLES="api,worker,agents") as (folder, stand):
        stand.door.environ |= {
            talk.EFFECTS: str(folder / "effects"),
            talk.MORTAL: str(folder / "mortal"),
        }
        await stand.start()
        async with (
            httpx.AsyncClient(base_url=stand.door.url, timeout=PATIENCE_S, trust_env=False) as http,
            Sender(stand.door.url) as sender,
        ):
            names = [f"agent-{n}" for n in range(AGENTS)]
            for name in names:
                (
                    await http.put(f"{_API}/{name}", json={"config": talk.config()})
                ).raise_for_status()
            until = time.monotonic() + seconds
            async with asyncio.TaskGroup() as group:
                for name in names:
                    for nth in range(SESSIONS):
                        group.create_task(_talk(http, name, f"{name}-{nth}", until, seen, seed))
                group.create_task(_kill(http, names, until, seen, chance))
            for session, events in seen.sent.items():
                await _judge(http, sender, session, events, seen)
            for name in names:
                status = await _get(http, f"{_API}/{name}/status")
                if status["status"] == "error":
                    seen.faults.append(f"{name} was given up: {status['last_error']}")
            await _dies_at_start(http, sender, folder / "mortal", seen)
    late = [waited for waited in seen.back_s if waited > BACK_S]
    if late:
        seen.faults.append(f"{len(late)} were back after more than {BACK_S:g} s: {max(late):.2f} s")
    return seen


async def _talk(
    http: httpx.AsyncClient, name: str, chat: str, until: float, seen: Seen, seed: int
) -> None:
    """Say one thing after the other; sometimes the next before the answer has come."""
    chance, said = random.Random(f"{seed} {chat}"), 0
    made = await http.post("/api/v1/sessions", json={"agent": name, "title": chat})
    made.raise_for_status()
    session = made.json()["id"]
    sent = seen.sent[session] = []
    while time.monotonic() < until:
        ms = chance.randint(*TURN_MS)
        body = {"text": f"work {ms} ms on {said}", "session_id": session}
        wait = 0 if chance.random() < 0.3 else 20
        answered = await http.post(
            f"{_API}/{name}/messages?wait={wait}",
            json=body,
            headers={"Idempotency-Key": f"{chat}-{said}"},
        )
        answered.raise_for_status()
        sent.append(answered.json()["id"])
        said += 1


async def _kill(
    http: httpx.AsyncClient, names: list[str], until: float, seen: Seen, chance: random.Random
) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(*KILL_EVERY_S))
        name = chance.choice(names)
        status = await _get(http, f"{_API}/{name}/status")
        if status["status"] != "running" or status["pid"] is None:
            continue
        when = kill(status["pid"])
        seen.kills += 1
        seen.back_s.append(await _back(http, name, status["pid"], when))


async def _back(http: httpx.AsyncClient, name: str, old: int, when: float) -> float:
    """How long after its death an agent was ready again, as the hub tells."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status = await _get(http, f"{_API}/{name}/status")
            if status["status"] == "running" and status["pid"] != old:
                return datetime.fromisoformat(status["ready_at"]).timestamp() - when
            await asyncio.sleep(_POLL_S)


async def _judge(
    http: httpx.AsyncClient, sender: Sender, session: str, events: list[str], seen: Seen
) -> None:
    """Every message has one answer, to what it said, and the turns ran in order."""
    ended = [await sender.ended(event) for event in events]
    for event in ended:
        runs = [run["status"] for run in event["executions"]]
        seen.in_turn += runs.count("crashed")
        if event["status"] != "succeeded":
            seen.faults.append(f"event {event['id']} {event['status']}: {event['last_error']}")
        if runs.count("succeeded") != 1 or set(runs) - {"succeeded", "crashed"}:
            seen.faults.append(f"event {event['id']} has executions that are {', '.join(runs)}")
    for before, after in pairwise(ended):
        last = max(run["finished_at"] for run in before["executions"])
        if min(run["started_at"] for run in after["executions"]) < last:
            seen.faults.append(f"{after['id']} began before the end of {before['id']}")
    said: list[dict[str, Any]] = []
    path: str | None = f"/api/v1/sessions/{session}/messages?limit=200"
    while path:
        page = await _get(http, path)
        said += page["items"]
        path = page["next"]
    said = sorted((one for one in said if one["role"] != "summary"), key=_place)
    talked = [(one["role"], one["content"]) for one in said]
    wanted: list[tuple[str, str]] = []
    for nth, question in enumerate(one for one in talked if one[0] == "user"):
        wanted += [question, ("assistant", f"done: {nth}")]
    if talked != wanted or len(talked) != 2 * len(events):
        wrong = next((pair for pair in zip(talked, wanted, strict=False) if pair[0] != pair[1]), "")
        seen.faults.append(f"{session}: {len(events)} said, {len(talked)} messages; first {wrong}")


def _place(message: dict[str, Any]) -> tuple[int, int]:
    return message["turn"], message["part"]


async def _dies_at_start(http: httpx.AsyncClient, sender: Sender, marker: Any, seen: Seen) -> None:
    """Given up with a reason, and asking for it changes nothing; started again it answers."""
    config = talk.config(tool="chaos.mortal:work")
    (await http.put(f"{_API}/mortal", json={"config": config})).raise_for_status()
    marker.touch()
    body = {"text": "work 10 ms on 0"}
    said = (await http.post(f"{_API}/mortal/messages", json=body)).raise_for_status().json()
    async with asyncio.timeout(PATIENCE_S):
        while (status := await _get(http, f"{_API}/mortal/status"))["status"] != "error":
            await asyncio.sleep(_POLL_S)
    for _ in range(100):
        if (again := await _get(http, f"{_API}/mortal/status")) != status:
            seen.faults.append(f"asking for the status changed it: {status} to {again}")
            break
    if not status["last_error"]:
        seen.faults.append("an agent was given up without a reason")
    marker.unlink()
    (await http.post(f"{_API}/mortal/start")).raise_for_status()
    event = await sender.ended(said["id"])
    if event["status"] != "succeeded":
        seen.faults.append(f"what waited for a mended agent {event['status']}")


async def _get(http: httpx.AsyncClient, path: str) -> Any:
    return (await http.get(path)).raise_for_status().json()


if __name__ == "__main__":
    sys.exit(main())
