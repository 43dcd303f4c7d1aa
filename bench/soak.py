"""Work for minutes at 70 % of the peak, and look at what grows.

`python -m bench.soak [--minutes 10] [--place sqlite|postgresql|…] [--snapshot] [--rate N]`. Old
records are pruned every few seconds, as a cron job would, by the pipelines' retention of a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM, default_int_handler, signal
from statistics import median
from typing import Any

import httpx
import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from holdfast.journal.folder import ROOM_BYTES
from holdfast.store.checkpoints import LIMIT_BYTES
from holdfast.store.tables import metadata

from .deployments import PLACES, Deployment, cannot, deployment
from .harness import percentile
from .places import postgres, stopped

SHARE = 0.7
ROUNDS = 3
WARM = 400
LOOK_S = 10.0
PRUNE_S = 5.0
DRAIN_S = 120.0
MARK = 0.2
"""Share of the time after which everything is warm: two minutes of ten."""

MEMORY = 1.10
ROWS = 1.25
FEW_ROWS = 200
KEPT = 0.98

TABLES = sorted(metadata.tables)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found.

    Attributes:
        at: seconds since the start.
        memory: bytes (PSS, RSS) by process.
        rows: by table.
        sizes: bytes by table, and what else lies on disk.
        journal: bytes.
        queued: events not yet claimed.
        unread: messages at the broker.
        ended: events that ended since the last look.
        waits: seconds from acceptance to end of these.
    """

    at: float
    memory: dict[str, tuple[int, int]]
    rows: dict[str, int]
    sizes: dict[str, int]
    journal: int
    queued: int
    unread: int | None
    ended: int
    waits: list[float]


@dataclass(slots=True)
class Soak:
    """A soak and what came of it."""

    asked: float
    seconds: float
    looks: list[Look] = field(default_factory=list[Look])
    prunes: list[tuple[float, float, int]] = field(default_factory=list[tuple[float, float, int]])
    sent: dict[str, Any] = field(default_factory=dict[str, Any])
    drained_s: float | None = None

    def marks(self) -> tuple[list[Look], list[Look]]:
        """The looks right after the warm-up, and the last ones under load."""
        loaded = [one for one in self.looks if one.at <= self.seconds]
        span = max(2 * LOOK_S, 0.05 * self.seconds)
        first = [one for one in loaded if 0 <= one.at - MARK * self.seconds <= span]
        return first, [one for one in loaded if one.at >= self.seconds - span]


class Watch:
    """Takes looks at an installation."""

    def __init__(self, one: Deployment) -> None:
        self._one = one
        self._began = time.perf_counter()
        self._seen = int(one.peek.one("SELECT coalesce(max(finished_at), 0) FROM events"))

    def look(self) -> Look:
        """One look; takes as long as counting all rows takes."""
        one, peek = self._one, self._one.peek
        at = time.perf_counter() - self._began
        waits = peek.rows(
            "SELECT finished_at, finished_at - received_at FROM events"
            f" WHERE finished_at > {self._seen}"
        )
        self._seen = max([self._seen, *(row[0] for row in waits)])
        return Look(
            at=at,
            memory={name: _memory(process) for name, process in one.processes().items()},
            rows={name: int(peek.one(f"SELECT count(*) FROM {name}")) for name in TABLES},
            sizes=_sizes(one),
            journal=one.journal_bytes(),
            queued=int(peek.one("SELECT count(*) FROM events WHERE status = 'queued'")),
            unread=one.unread(),
            ended=len(waits),
            waits=[row[1] / 1e6 for row in waits],
        )


def _memory(process: psutil.Process) -> tuple[int, int]:
    with suppress(psutil.NoSuchProcess):
        found = process.memory_full_info()
        return found.pss, found.rss
    return 0, 0


def _sizes(one: Deployment) -> dict[str, int]:
    if (file := one.peek.sqlite) is not None:
        return {
            "database": file.stat().st_size,
            "WAL": Path(f"{file}-wal").stat().st_size,
        }
    return {name: int(one.peek.one(f"SELECT pg_total_relation_size('{name}')")) for name in TABLES}


@contextmanager
def held_snapshot(url: str) -> Iterator[None]:
    """A transaction that sees the database as it was, and so keeps all that dies from vacuum."""
    with psycopg.connect(url) as connection:
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.commit()
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM events")
        yield
        connection.rollback()


async def send(one: Deployment, rate: float, events: int) -> dict[str, Any]:
    """Load; see `pace`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("pace.py")),
        *(",".join(map(str, one.ports)), str(rate), str(events)),
        stdout=asyncio.subprocess.PIPE,
    )
    async with stopped(process):
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        await process.wait()
    if said["refused"]:
        print(f"refused: {said['refused']}", file=sys.stderr, flush=True)
    return said


async def ended(one: Deployment, goal: int, within_s: float) -> None:
    """Wait until so many events have ended."""
    async with asyncio.timeout(within_s):
        while one.peek.ended() < goal:
            await asyncio.sleep(0.05)


async def measured_peak(one: Deployment, events: int) -> float:
    """Events a second in bursts, from the first request to the last stored record."""
    await send(one, 0, WARM)
    await ended(one, WARM, DRAIN_S)
    speeds: list[float] = []
    for number in range(1, ROUNDS + 1):
        began = time.perf_counter()
        await send(one, 0, events)
        await ended(one, WARM + number * events, DRAIN_S)
        speeds.append(events / (time.perf_counter() - began))
    return median(speeds)


async def soak(one: Deployment, rate: float, seconds: float) -> Soak:
    """Keep a rate and look, then let it drain."""
    result = Soak(asked=rate, seconds=seconds)
    watch = Watch(one)
    done = asyncio.Event()

    async def prune() -> None:
        began = time.perf_counter()
        url = f"http://127.0.0.1:{one.ports[0]}/api/v1/executions/prune"
        async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
            while not done.is_set():
                await asyncio.sleep(PRUNE_S)
                at = time.perf_counter()
                answer = (await http.post(url)).raise_for_status().json()
                took = time.perf_counter() - at
                result.prunes.append((at - began, took, sum(answer["events"].values())))

    async def look() -> None:
        number = 0
        while not done.is_set():
            number += 1
            await asyncio.sleep(max(0.0, began + number * LOOK_S - time.perf_counter()))
            result.looks.append(found := await asyncio.to_thread(watch.look))
            print(progress(found), flush=True)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        group.create_task(prune())
        group.create_task(look())
        result.sent = await send(one, rate, int(rate * seconds))
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while one.peek.one(
                    "SELECT count(*) FROM events WHERE status IN ('queued', 'running')"
                ):
                    await asyncio.sleep(0.1)
                result.drained_s = max(0.0, time.perf_counter() - began - seconds)
        done.set()
    return result


def progress(one: Look) -> str:
    """A look in one line."""
    memory = " ".join(f"{pss / 2**20:.0f}" for pss, _ in one.memory.values())
    waits = [1000 * percentile(one.waits, share) for share in (0.5, 0.99)] if one.waits else [0, 0]
    return (
        f"{one.at:5.0f} s  {one.ended / LOOK_S:5.0f}/s  p50 {waits[0]:.0f} ms  "
        f"p99 {waits[1]:.0f} ms  queued {one.queued}  PSS {memory} MiB  "
        f"events {one.rows['events']}  disk {sum(one.sizes.values()) / 2**20:.0f} MiB  "
        f"journal {one.journal / 2**20:.1f} MiB"
        + ("" if one.unread is None else f"  unread {one.unread}")
    )


class Verdicts:
    """The table, and whether all of it holds."""

    def __init__(self) -> None:
        self.table = Table("what", box=None, pad_edge=False, header_style="bold")
        for heading in ("warm", "at the end", "ratio", "bar"):
            self.table.add_column(heading, justify="right", no_wrap=True)
        self.table.add_column("", no_wrap=True)
        self.held = True

    def add(
        self, what: str, values: tuple[str, str], ratio: float | None, bar: str, good: bool | None
    ) -> None:
        """One line; without a verdict if `good` is None."""
        verdict = {True: "[green]holds[/]", False: "[bold red]BROKEN[/]", None: ""}[good]
        shown = "" if ratio is None else f"{ratio:.2f}"
        self.table.add_row(what, *values, shown, bar, verdict)
        self.held = self.held and good is not False


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def judge(result: Soak, *, snapshot: bool) -> Verdicts:
    """Hold the end against the time right after the warm-up."""
    first, last = result.marks()
    told = Verdicts()
    for name in first[0].memory:
        for number, kind in enumerate(("PSS", "RSS")):
            pair = [median(one.memory[name][number] for one in looks) for looks in (first, last)]
            ratio = pair[1] / pair[0]
            values = _mib(pair[0]), _mib(pair[1])
            told.add(f"{name}, {kind}", values, ratio, f"≤ {MEMORY:.2f}", ratio <= MEMORY)
    for name in TABLES:
        a, b = (median(one.rows[name] for one in looks) for looks in (first, last))
        good = b <= max(FEW_ROWS, ROWS * a)
        told.add(f"{name}, rows", (f"{a:,.0f}", f"{b:,.0f}"), b / a if a else None, "bounded", good)
    for name in first[0].sizes:
        a, b = (median(one.sizes[name] for one in looks) for looks in (first, last))
        told.add(f"{name}, size", (_mib(a), _mib(b)), b / a if a else None, "", None)
    if "WAL" in first[0].sizes:  # it begins afresh when it has been copied into the database
        most = max(one.sizes["WAL"] for one in result.looks)
        bar = 2 * LIMIT_BYTES
        told.add("WAL at most", ("", _mib(most)), None, f"≤ {_mib(bar)}", most <= bar)
    names = [name for name in first[0].sizes if name != "WAL"]
    a, b = (sum(median(one.sizes[n] for one in x) for n in names) for x in (first, last))
    bar, good = ("", None) if snapshot else (f"≤ {ROWS:.2f}", b <= ROWS * a)
    values = _mib(a), _mib(b)
    told.add("database in all", values, b / a, bar, good)
    a, b = (max(one.journal for one in looks) for looks in (first, last))
    values = _mib(a), _mib(b)
    most = max(one.journal for one in result.looks)
    told.add("journal", values, None, f"≤ {ROOM_BYTES >> 20} MiB", most <= ROOM_BYTES)
    if first[0].unread is not None:
        a, b = (max(one.unread or 0 for one in looks) for looks in (first, last))
        told.add("unread messages", (f"{a}", f"{b}"), None, "bounded", b <= max(FEW_ROWS, ROWS * a))
    _judge_speed(result, told, first, last)
    return told


def _judge_speed(result: Soak, told: Verdicts, first: Sequence[Look], last: Sequence[Look]) -> None:
    for share in (0.5, 0.99):
        a, b = (percentile([w for x in y for w in x.waits], share) for y in (first, last))
        values = f"{1000 * a:.0f} ms", f"{1000 * b:.0f} ms"
        told.add(f"accepted to ended, p{100 * share:.0f}", values, b / a, "", None)
    a, b = (max(one.queued for one in looks) for looks in (first, last))
    told.add("queued", (f"{a}", f"{b}"), None, "", None)
    prunes = [took for _, took, _ in result.prunes]
    third = max(1, len(prunes) // 3)
    a, b = median(prunes[:third]), median(prunes[-third:])
    told.add("one pruning", (f"{a:.2f} s", f"{b:.2f} s"), b / a, "", None)
    kept = result.sent["sent"] / result.sent["seconds"] / result.asked
    values = f"{result.asked:.0f}/s", f"{kept * result.asked:.0f}/s"
    good = kept >= KEPT and not result.sent["refused"]
    told.add("asked, and taken in", values, kept, f"≥ {KEPT}", good)
    loaded = [one for one in result.looks if one.at <= result.seconds]
    rate = sum(one.ended for one in loaded) / loaded[-1].at
    values = f"{result.asked:.0f}/s", f"{rate:.0f}/s"
    told.add(
        "asked, and ended", values, rate / result.asked, f"≥ {KEPT}", rate >= KEPT * result.asked
    )
    drained = "not drained" if result.drained_s is None else f"{result.drained_s:.1f} s"
    told.add("all ended after the last one", ("", drained), None, "", result.drained_s is not None)


async def run(place: str, minutes: float, rate: float | None, *, snapshot: bool) -> bool:
    """Soak and print; whether everything held."""
    console = Console(width=120)
    with ExitStack() as stack:
        server = None if place == "sqlite" else stack.enter_context(postgres())
        async with deployment(place, server) as one:
            if rate is None:
                peak = await measured_peak(one, 800 if place.startswith("celery") else 2500)
                rate = SHARE * peak
                console.print(f"peak {peak:.0f}/s in bursts on {PLACES[place]}")
            held = "; an old snapshot is held" if snapshot else ""
            console.print(f"{rate:.0f}/s for {minutes:g} minutes on {PLACES[place]}{held}")
            with held_snapshot(one.store_url) if snapshot else nullcontext():
                result = await soak(one, rate, 60 * minutes)
    if not all(result.marks()):
        console.print("[bold red]broken off before there was anything to judge")
        return False
    told = judge(result, snapshot=snapshot)
    console.print(told.table)
    console.print(f"the latest event went out {result.sent['behind_s']:.2f} s late", style="dim")
    return told.held


def main() -> int:
    """Soak; the exit code is 1 when something grew or the rate was not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--place", choices=PLACES, default="sqlite")
    parser.add_argument("--snapshot", action="store_true", help="hold an old snapshot open")
    parser.add_argument("--rate", type=float, help="events a second; default: 70 %% of the peak")
    asked = parser.parse_args()
    if asked.snapshot and asked.place == "sqlite":
        parser.error("--snapshot is for PostgreSQL")
    if (why := cannot(asked.place)) is not None:
        parser.error(f"{PLACES[asked.place]} cannot be had: {why}")
    signal(SIGTERM, default_int_handler)  # so that what was started is stopped
    held = asyncio.run(run(asked.place, asked.minutes, asked.rate, snapshot=asked.snapshot))
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
