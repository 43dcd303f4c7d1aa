"""The contract of a spawner: inherit `SpawnerContract` and give it one that was just opened."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from holdfast.domain.ids import new_id
from holdfast.hub.process_worker import ProcessWorker, RunnerOptions
from holdfast.hub.worker import Worker
from holdfast.ports import RunSpec
from holdfast.runner.process import STRICT, RunnerProcess, Spawner
from holdfast.runner.zygote import descriptors
from holdfast.testing.ports import MemorySink

WITHIN_S = 100.0

ENVIRONMENT: dict[str, str] = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",  # without it Python adds a variable of its own
}


class Hired:
    """One runner, greeted as a hub greets it, and what it reports.

    Attributes:
        process: it.
        worker: it, as a hub works with it.
    """

    def __init__(
        self,
        spawner: Spawner,
        environment: Mapping[str, str] | None = None,
        *,
        log: Path | None = None,
        soon: bool = False,
    ) -> None:
        made = RunnerOptions(
            apps=("holdfast.testing.contracts.spawner_app",),
            models={},
            environment=ENVIRONMENT if environment is None else environment,
            slots=4,
            log_level="critical",
        )
        self.process = spawner.spawn(made.environment, log=log, soon=soon)
        self.worker = ProcessWorker("runner", self, made, process=self.process)
        self.ready = asyncio.Event()
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._sink = MemorySink()
        self._ended: dict[str, asyncio.Event] = {}

    async def start(self) -> Hired:
        """Greet it and wait until it is ready."""
        await self.worker.start()
        async with asyncio.timeout(WITHIN_S):
            await self.ready.wait()
        return self

    async def run(self, name: str, **order: Any) -> Any:
        """Run one of its pipelines; the output."""
        execution_id = self.begin(name, **order)
        async with asyncio.timeout(WITHIN_S):
            await self._ended[execution_id].wait()
        return self._sink.record(execution_id).output

    def begin(self, name: str, **order: Any) -> str:
        """Begin to run one of its pipelines."""
        execution_id = new_id()
        self._ended[execution_id] = asyncio.Event()
        self.worker.run(
            RunSpec(
                execution_id=execution_id,
                event_id="event",
                owner_id="local",
                kind="pipeline",
                name=name,
                version="1",
                data=orjson.dumps(order),
                delivery=1,
            )
        )
        return execution_id

    async def ended(self) -> int | None:
        """Wait until it is gone, as its hub sees it; its exit code."""
        async with asyncio.timeout(WITHIN_S):
            await self.gone
            await self.worker.gone()
            return await asyncio.to_thread(self.process.wait)

    def on_ready(self, worker: Worker) -> None:
        """See `Employer`."""
        self.ready.set()

    def on_gone(self, worker: Worker, reason: str) -> None:
        """See `Employer`."""
        worker.in_flight.clear()
        self.gone.set_result(reason)

    def on_change(self, worker: Worker, execution_id: str, raw: bytes) -> None:
        """See `Employer`."""
        self._sink.change(execution_id, raw)

    def on_tokens(self, execution_id: str, step: int, text: str) -> None:
        """See `Employer`."""

    def on_ended(self, worker: Worker, execution_id: str) -> None:
        """See `Employer`."""
        self._ended[execution_id].set()

    def on_outcome(self, told: Mapping[str, Any]) -> None:
        """See `Employer`."""

    def on_spent(self, told: Mapping[str, Any]) -> None:
        """See `Employer`."""

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """Nobody asks."""
        raise AssertionError(f"{port} was asked for")


async def end(*hired: Hired) -> None:
    """Kill runners and wait until they are gone."""
    await asyncio.gather(*(one.worker.kill() for one in hired))


async def waited(process: RunnerProcess) -> int | None:
    """The exit code of a process that is about to end."""
    async with asyncio.timeout(WITHIN_S):
        return await asyncio.to_thread(process.wait)


class SpawnerContract:
    """Tests for any spawner. The fixture `spawner` is one that was just opened.

    Attributes:
        many: how many runners are started at once.
    """

    many = 20

    async def test_a_runner_has_the_variables_it_was_given_and_no_others(
        self, spawner: Spawner
    ) -> None:
        """Whatever they look like."""
        given = {**ENVIRONMENT, "ODD": "a=b\nc ü", "EMPTY": "", "TZ": "Asia/Kolkata"}
        one, two = Hired(spawner, given), Hired(spawner)
        await asyncio.gather(one.start(), two.start())
        seen = await one.run("spawned.looks")
        assert seen["environment"] == given | STRICT
        assert seen["python"]["zones"] == ["IST", "IST"]
        assert seen["python"]["strict"]
        assert (await two.run("spawned.looks"))["environment"] == ENVIRONMENT | STRICT
        await end(one, two)

    async def test_what_a_runner_prints_is_appended_to_its_log(
        self, spawner: Spawner, tmp_path: Path
    ) -> None:
        """By itself, by what it starts, and at once; nobody else may read it."""
        logs = [tmp_path / "one", tmp_path / "two"]
        logs[0].write_text("before\n")
        logs[0].chmod(0o600)
        hired = await asyncio.gather(*(Hired(spawner, log=log).start() for log in logs))
        for name, one in zip(("a", "b"), hired, strict=True):
            await one.run("spawned.does", say=name)
        assert logs[0].read_text() == "before\na out\na err\na child\n"
        assert logs[1].read_text() == "b out\nb err\nb child\n"
        assert [stat.S_IMODE(log.stat().st_mode) for log in logs] == [0o600, 0o600]
        await end(*hired)

    async def test_its_exit_code_is_told(self, spawner: Spawner) -> None:
        """And its end is seen at once, for the socket ends too."""
        one = await Hired(spawner).start()
        one.begin("spawned.does", leave=7)
        assert await one.ended() == 7
        assert await waited(one.process) == 7, "as often as it is asked"

    async def test_a_runner_can_be_ended(self, spawner: Spawner) -> None:
        """By a signal of ours or of anybody's; to end it again is no harm."""
        hired = await asyncio.gather(*(Hired(spawner).start() for _ in range(3)))
        hired[0].process.terminate()
        hired[1].process.kill()
        assert hired[2].worker.pid is not None
        os.kill(hired[2].worker.pid, signal.SIGUSR1)
        codes = [await one.ended() for one in hired]
        assert codes == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGUSR1]
        for one in hired:
            one.process.terminate()
            one.process.kill()

    async def test_a_runner_that_is_told_to_leaves(self, spawner: Spawner) -> None:
        """It ends well."""
        one = await Hired(spawner).start()
        one.worker.retire()
        assert await one.ended() == 0

    async def test_a_runner_that_nobody_greets_leaves_with_its_socket(
        self, spawner: Spawner
    ) -> None:
        """So none outlives its hub."""
        left, closed = spawner.spawn(ENVIRONMENT), spawner.spawn(ENVIRONMENT)
        left.sock.close()
        assert await waited(left) == 0
        await asyncio.to_thread(closed.close)
        await asyncio.to_thread(closed.close)

    async def test_one_that_is_ended_before_it_is_there_never_works(self, spawner: Spawner) -> None:
        """Its hub sees it go."""
        hired = [Hired(spawner) for _ in range(3)]
        for one in hired:
            one.process.kill()
        for one in hired:
            await one.worker.start()
            await one.ended()
            assert not one.ready.is_set()

    async def test_many_at_once_are_as_many(self, spawner: Spawner) -> None:
        """Each a process of its own that works."""
        hired = await asyncio.gather(*(Hired(spawner).start() for _ in range(self.many)))
        seen = await asyncio.gather(*(one.run("spawned.looks") for one in hired))
        pids = {one["pid"] for one in seen}
        assert len(pids) == self.many
        assert os.getpid() not in pids
        assert [one.worker.pid for one in hired] == [one["pid"] for one in seen]
        await end(*hired)

    async def test_no_runner_holds_what_is_anothers(self, spawner: Spawner, tmp_path: Path) -> None:
        """No socket of another runner, or of the hub; nor hands on its own."""
        with closing(socket.create_server(("127.0.0.1", 0))), (tmp_path / "open").open("w"):
            hired = [await Hired(spawner, log=tmp_path / str(n)).start() for n in range(3)]
            seen = [await one.run("spawned.looks") for one in hired]
            ours = {what for _, what in descriptors()}
        held = [set(one["descriptors"]) - {"/dev/null"} for one in seen]
        for one in held:
            one -= {what for what in one if what.startswith("anon_inode:") or "/proc/" in what}
        assert not held[0] & held[1] | held[1] & held[2] | held[0] & held[2]
        assert not any(one & (ours - {"/dev/null"}) for one in held)
        assert [len(one["descriptors"]) for one in seen] == 3 * [len(seen[0]["descriptors"])]
        assert [one["inheritable"] for one in seen] == [[], [], []]
        await end(*hired)

    async def test_each_draws_its_own_numbers(self, spawner: Spawner) -> None:
        """Ids made at the same time by two runners differ."""
        hired = await asyncio.gather(*(Hired(spawner).start() for _ in range(4)))
        seen = await asyncio.gather(*(one.run("spawned.looks") for one in hired))
        for kind in seen[0]["chances"]:
            drawn = [number for one in seen for number in one["chances"][kind]]
            assert len(set(drawn)) == len(drawn), kind
        await end(*hired)

    async def test_no_signal_is_held_back(self, spawner: Spawner) -> None:
        """Two are ignored: Ctrl-C is the hub's, and whoever writes to nobody gets an error."""
        one = await Hired(spawner).start()
        signals = (await one.run("spawned.looks"))["signals"]
        ignored = int(signals["SigIgn"], 16)
        assert int(signals["SigBlk"], 16) == 0
        assert ignored & 1 << signal.SIGPIPE - 1
        assert not ignored & 1 << signal.SIGTERM - 1
        await end(one)

    async def test_what_cannot_be_is_refused(self, spawner: Spawner, tmp_path: Path) -> None:
        """And leaves nothing behind."""
        for name, value in (("A=B", ""), ("", "x"), ("A", "a\0b")):
            assert isinstance(_refusal(spawner, {name: value}), ValueError)
        assert isinstance(_refusal(spawner, ENVIRONMENT, tmp_path / "no" / "log"), OSError)
        await end(await Hired(spawner).start())

    async def test_one_that_is_wanted_soon_is_a_runner_too(self, spawner: Spawner) -> None:
        """With its own variables, as any other."""
        one = await Hired(spawner, {**ENVIRONMENT, "OWN": "1"}, soon=True).start()
        assert (await one.run("spawned.looks"))["environment"]["OWN"] == "1"
        await end(one)

    async def test_what_was_started_goes_on_when_no_more_is(self, spawner: Spawner) -> None:
        """Until it is ended."""
        one = await Hired(spawner).start()
        await asyncio.to_thread(spawner.close)
        assert (await one.run("spawned.looks"))["pid"] == one.worker.pid
        await end(one)
        await waited(one.process)


def _refusal(
    spawner: Spawner, environment: Mapping[str, str], log: Path | None = None
) -> Exception:
    try:
        spawner.spawn(environment, log=log)
    except (ValueError, OSError) as error:
        return error
    raise AssertionError("it was started")
