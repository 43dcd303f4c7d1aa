"""Delivery: recordings out of their folders into a store or to a hub, on a thread of its own."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import httpx
import orjson

from holdfast.domain.ids import now_us
from holdfast.domain.recordings import FOLDER_PREFIX
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import StoreLocked, StoreOutdated, StoreRefused
from holdfast.journal.folder import SET_ASIDE, Orphan, orphans
from holdfast.journal.replay import replay
from holdfast.journal.running import Assessor, Running
from holdfast.llm.checks import suspicious
from holdfast.llm.prices import Prices
from holdfast.store.commands import Finish
from holdfast.store.registry import address, open_store
from holdfast.telemetry import logger

log = logger("recorder")

GATHER_S = 0.25
"""Pause after an execution's end, so that many that end together travel together."""

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Pauses after rounds that left something; the last one repeats."""

BATCH_BYTES = 4 * 1024 * 1024
"""Executions are sent together up to this size."""

TIMEOUT = httpx.Timeout(30.0, connect=3.0)

_REFUSED = frozenset({400, 413, 415, 422})
"""Answers that will be the same another time."""

_LOOPBACK = re.compile(r"https?://(localhost|127\.[0-9.]+|\[::1\])(:|/|$)", re.IGNORECASE)

DIED = {
    "code": "recorder_died",
    "message": "the process that recorded this ended before it told the end",
}


class Delivery(Protocol):
    """Where recordings go."""

    def deliver(self) -> bool:
        """Take what has been handed over; whether nothing is left. Raises what went wrong."""
        ...


class ToStore:
    """Into the store of a home, unless a hub holds it: then the hub takes the folders itself.

    A store that does not exist or has another schema is left to the next hub too.
    """

    def __init__(self, root: Path, home: Path, store_url: str) -> None:
        self._root = root
        self._home = home
        self._url = store_url

    def deliver(self) -> bool:
        """See `Delivery`."""
        where = address(self._url)
        if not any(self._root.glob(f"{FOLDER_PREFIX}*")):
            return True
        if where.file is not None and not where.file.exists():
            return True
        try:
            return asyncio.run(self._store())
        except (StoreLocked, StoreOutdated):
            return True  # a hub has the store, or the next one will

    async def _store(self) -> bool:
        assessor = Assessor(price=Prices().price, suspicious=suspicious)
        store = open_store(self._url, home=self._home, moment=True)
        left = False
        try:
            for orphan in orphans(self._root, FOLDER_PREFIX):
                kept = False
                try:
                    runs = replay(orphan.entries(), assessor, _bad_entry)
                    records = [_ended(run).record(counts_as_crash=False) for run in runs]
                    await asyncio.gather(*(store.write(Finish(record)) for record in records))
                    kept = True
                except StoreRefused as error:
                    left = True  # a hub sets such a record aside and goes on
                    log.error("recorder.refused", folder=orphan.boot_id, why=str(error))
                finally:
                    orphan.remove() if kept else orphan.release()
        finally:
            await store.close()
        return not left


def _bad_entry(error: Exception) -> None:
    log.error("recorder.bad_entry", error=repr(error))


def _ended(running: Running) -> Running:
    if running.finished is None:
        running.break_off(ExecutionStatus.CRASHED, now_us(), DIED)
    return running


class ToHub:
    """To a hub over HTTP; a folder stays until the hub has answered for all that is in it."""

    def __init__(self, root: Path, url: str, key: str | None) -> None:
        self._root = root
        self._url = url.rstrip("/")
        self._key = key

    def deliver(self) -> bool:
        """See `Delivery`."""
        if not any(self._root.glob(f"{FOLDER_PREFIX}*")):
            return True
        with httpx.Client(
            base_url=self._url,
            headers={"authorization": f"Bearer {self._key}"} if self._key else None,
            timeout=TIMEOUT,
            verify=self._url.startswith("https:"),
            trust_env=not _LOOPBACK.match(self._url),
        ) as http:
            for orphan in orphans(self._root, FOLDER_PREFIX):
                sent = False
                try:
                    for batch in _batches(_by_execution(orphan.entries())):
                        self._send(http, orphan, batch)
                    sent = True
                finally:
                    orphan.remove() if sent else orphan.release()
        return True

    def _send(self, http: httpx.Client, orphan: Orphan, batch: dict[str, bytes]) -> None:
        answer = http.post(
            "/api/v1/recordings",
            content=b"".join(batch.values()),
            headers={"content-type": "application/x-ndjson"},
        )
        if answer.status_code in _REFUSED:
            if len(batch) > 1:
                for name, body in batch.items():
                    self._send(http, orphan, {name: body})
                return
            refused = dict.fromkeys(batch, answer.text[:500])
        else:
            answer.raise_for_status()
            told = answer.json()
            refused = {one["id"]: one["message"] for one in told["refused"]}
            if told["faults"]:  # the hub may be older than we are
                log.error("recorder.not_understood", entries=told["faults"], executions=len(batch))
        for execution_id, why in refused.items():
            kept = orphan.path.parent / SET_ASIDE / f"{Path(execution_id).name}.ndjson"
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(batch.get(execution_id, b""))
            log.error("recorder.refused", execution_id=execution_id, why=why, kept=str(kept))


def _by_execution(entries: Iterable[bytes]) -> dict[str, bytes]:
    """Each execution's entries as lines."""
    found: dict[str, list[bytes]] = {}
    for body in entries:
        entry = orjson.loads(body)
        id_ = entry["r"]["execution_id"] if "r" in entry else entry["x"]
        if "settled" in entry:  # it goes on in another folder
            found.pop(id_, None)
        else:
            found.setdefault(id_, []).append(body + b"\n")
    return {id_: b"".join(lines) for id_, lines in found.items()}


def _batches(runs: dict[str, bytes]) -> Iterator[dict[str, bytes]]:
    batch: dict[str, bytes] = {}
    size = 0
    for id_, body in runs.items():
        if batch and size + len(body) > BATCH_BYTES:
            yield batch
            batch, size = {}, 0
        batch[id_] = body
        size += len(body)
    if batch:
        yield batch


class Courier:
    """Hands over and delivers, from the first execution's end until `close`."""

    def __init__(
        self, hand_over: Callable[[], None], delivery: Delivery, fault: Callable[[Exception], None]
    ) -> None:
        """Prepare; the thread starts with the first `wake`.

        Args:
            hand_over: lets go of folders that are complete.
            delivery: takes them.
            fault: told when a round fails; it is tried again.
        """
        self._hand_over = hand_over
        self._delivery = delivery
        self._fault = fault
        self._thread: threading.Thread | None = None
        self._turn = threading.Condition()
        self._asked = 0  # rounds wanted so far
        self._served = 0  # the newest of them that is through
        self._clean = True  # whether it left nothing
        self._hurry = False
        self._closed = False

    def wake(self) -> int:
        """Something has ended; the number of the round that will deliver it."""
        with self._turn:
            self._asked += 1
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._work, name="holdfast-recorder", daemon=True
                )
                self._thread.start()
            self._turn.notify_all()
            return self._asked

    def flush(self, timeout: float) -> bool:
        """Deliver now, for at most `timeout` seconds; whether nothing is left."""
        until = time.monotonic() + timeout
        self._hurry = True
        try:
            while True:
                wanted = self.wake()
                with self._turn:
                    while self._served < wanted:
                        if not self._turn.wait(timeout=max(0.0, until - time.monotonic())):
                            return False
                    if self._clean:
                        return True
                    self._turn.wait(timeout=min(0.1, max(0.0, until - time.monotonic())))
                if time.monotonic() >= until:
                    return False
        finally:
            self._hurry = False

    def close(self) -> None:
        """Stop after the present round."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def _work(self) -> None:
        failures = 0
        while not self._closed:
            with self._turn:
                if failures:
                    pause = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
                    self._turn.wait_for(lambda: self._closed or self._hurry, timeout=pause)
                else:
                    self._turn.wait_for(lambda: self._closed or self._asked > self._served)
                    self._turn.wait_for(lambda: self._closed or self._hurry, timeout=GATHER_S)
                serving = self._asked
            clean = self._round()
            failures = 0 if clean else failures + 1
            with self._turn:
                self._served, self._clean = serving, clean
                self._turn.notify_all()

    def _round(self) -> bool:
        try:
            self._hand_over()
            return self._delivery.deliver()
        except Exception as error:  # noqa: BLE001 - whatever it is must not end the deliveries
            self._fault(error)
            return False
