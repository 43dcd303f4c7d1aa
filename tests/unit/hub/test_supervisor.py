"""Agents' processes: started by a message, restarted, given up, stopped when idle, replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from holdfast.bus import MemoryBus, Notice
from holdfast.bus.base import AGENTS, QUEUED
from holdfast.bus.in_process import Exchange
from holdfast.domain.agents import AGENT, AgentVersion, Process, ProcessStatus
from holdfast.domain.conversations import NewMessage, NewTurn, Speaker
from holdfast.domain.events import LOCAL_OWNER, NewEvent
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import InvalidInput
from holdfast.hub import AgentOptions, Hub, HubOptions
from holdfast.hub.agent_process import PROVEN_S, TERM_S, AgentProcess, Rules
from holdfast.hub.agents import Configured
from holdfast.hub.answers import APOLOGIES
from holdfast.hub.supervisor import ELSEWHERE_S, SWEEP_S, Supervisor
from holdfast.hub.worker import Employer, WorkerState
from holdfast.journal import Journal
from holdfast.operations.kit import Kit
from holdfast.operations.wait import EndedEvents
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.registry import Registry
from holdfast.store.commands import Claim, Submit
from holdfast.store.commands.agents import ChangeAgent, DeleteAgent, PutAgent
from holdfast.store.commands.processes import TakeProcesses, WantProcess
from holdfast.store.queries import MessagesOf
from holdfast.store.queries.processes import ProcessOf
from holdfast.telemetry import Metrics
from holdfast.testing.ports import ASSESSOR

from .conftest import TIMEOUT_S, Clock, FakeWorker, HubForTests, Job, nothing, pipeline

P, E, X = ProcessStatus, EventStatus, ExecutionStatus

RULES = Rules(idle_s=100.0, check_s=5.0, max_restarts=3, grace_s=10.0)


class Echo(Pipeline):
    """Stands for an agent: the hub never looks inside."""

    kind: ClassVar[str] = AGENT


class FakeProcess(FakeWorker):
    """A worker with a process that does what the test says."""

    pids = iter(range(1000, 10**6))

    def __init__(self, agent: Configured, employer: Employer) -> None:
        super().__init__(f"agent-{agent.version.name}", employer, slots=agent.concurrency)
        self.agent = agent
        self.pid = next(self.pids)
        self.becomes_ready = False
        self.leaves = True  # when it is told to and has nothing to do
        self.signals: list[str] = []

    def retire(self) -> None:
        if self.leaves:
            super().retire()
        elif self.state is not WorkerState.GONE:
            self.state = WorkerState.RETIRING

    def terminate(self) -> None:
        self.signals.append("TERM")

    async def kill(self) -> None:
        self.signals.append("KILL")
        await super().kill()


class Seconds:
    """The supervisor's clock, which only the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stand(HubForTests):
    """A hub that runs agents in fake processes, and short words for what tests do with it."""

    def __init__(self, kit: Kit, rules: Rules = RULES) -> None:
        self.kit = kit
        self.store = kit.store  # type: ignore[assignment]
        self.clock = Seconds()
        self.started: list[FakeProcess] = []
        self.refuse: str | None = None
        self.ready_at_once = True
        self.ended_events = EndedEvents(kit)
        self.hub = Hub(
            kit,
            HubOptions(runners=0, stop_grace_s=rules.grace_s),
            hire=lambda *_: pytest.fail("no pipeline is run here"),
            agents=AgentOptions(
                configure=configure, hire=self._hire_agent, rules=rules, host="h", clock=self.clock
            ),
        )

    def _hire_agent(self, agent: Configured, employer: Employer) -> FakeProcess:
        if agent.error is not None:
            raise agent.error
        worker = FakeProcess(agent, employer)
        worker.becomes_ready = self.ready_at_once and self.refuse is None
        self.started.append(worker)
        if self.refuse is not None:
            asyncio.get_running_loop().call_soon(worker.die, self.refuse)
        return worker

    async def end(self) -> None:
        """Close the hub, whatever its processes do."""
        closing = asyncio.create_task(self.hub.close())
        while not closing.done():
            self.clock.now += 100
            self.supervisor.changed()
            await asyncio.sleep(0.001)
        await closing

    @property
    def supervisor(self) -> Supervisor:
        assert self.hub.agent_office is not None
        return self.hub.agent_office.supervisor

    @property
    def newest(self) -> FakeProcess:
        return self.started[-1]

    @property
    def alive(self) -> list[FakeProcess]:
        return [one for one in self.started if one.state is not WorkerState.GONE]

    def process(self, agent_id: str) -> AgentProcess:
        return self.supervisor.processes[agent_id]

    async def agent(self, name: str = "ada", **config: Any) -> str:
        version = AgentVersion(
            id=new_id(),
            owner_id=LOCAL_OWNER,
            name=name,
            description="",
            version=1,
            config=config,
            author=None,
            created_at=0,
        )
        await self.kit.store.write(PutAgent(version))
        self.kit.bus.publish(Notice(AGENTS, target=version.id))
        return version.id

    async def change(self, agent_id: str, name: str = "ada", **config: Any) -> None:
        await self.kit.store.write(
            ChangeAgent(
                agent_id=agent_id,
                owner_id=LOCAL_OWNER,
                name=name,
                description="",
                config=config,
                author=None,
            )
        )
        self.kit.bus.publish(Notice(AGENTS, target=agent_id))

    async def want(self, agent_id: str, wanted: Any = "on", *, restart: bool = False) -> None:
        await self.kit.store.write(
            WantProcess(
                kind=AGENT,
                target=agent_id,
                owner_id=LOCAL_OWNER,
                wanted=wanted,
                ask_restart=restart,
            )
        )
        self.kit.bus.publish(Notice(AGENTS, target=agent_id))

    async def say(self, agent_id: str, chat: str | None = None, *, ring: bool = True) -> str:
        event = NewEvent(
            id=new_id(),
            owner_id=LOCAL_OWNER,
            type="agent.message",
            source="/",
            subject=None,
            target=agent_id,
            target_kind=AGENT,
            data=b'{"text": "hello"}',
            idempotency_key=None,
            body_hash="",
            priority=0,
            traceparent=None,
            occurred_at=None,
        )
        said = NewMessage(id=new_id(), role=Speaker.USER, content="hello", tokens=1)
        turn = NewTurn(
            agent_id=agent_id, message=said, session_id=None, new_session_id=new_id(), chat_id=chat
        )
        await self.kit.store.write(Submit(event, turn))
        if ring:
            self.kit.bus.publish(Notice(QUEUED, event_id=event.id, target=agent_id))
        return event.id

    async def turn(self, event_id: str) -> tuple[FakeProcess, str]:
        """Wait until a process has it."""

        def found() -> Any:
            for worker in self.alive:
                for spec in worker.specs:
                    if spec.event_id == event_id and spec.execution_id in worker.in_flight:
                        return worker, spec.execution_id
            return None

        return await self.until(found)

    async def answered(self, event_id: str) -> FakeProcess:
        worker, execution_id = await self.turn(event_id)
        worker.end(execution_id)
        assert (await self.ended(event_id)).status is E.SUCCEEDED
        return worker

    async def row(self, agent_id: str) -> Process | None:
        return await self.kit.store.read(ProcessOf(AGENT, agent_id, LOCAL_OWNER))

    async def until_row(self, agent_id: str, test: Callable[[Process], Any]) -> Process:
        async with asyncio.timeout(10):
            while (row := await self.row(agent_id)) is None or not test(row):
                await asyncio.sleep(0.001)
        return row

    async def status(self, agent_id: str, status: ProcessStatus) -> Process:
        """Wait for it; a stopped one has been given back."""
        held = status is not P.STOPPED
        return await self.until_row(
            agent_id, lambda row: row.status is status and (held or row.hub is None)
        )

    async def fail_until(self, agent_id: str, restarts: int) -> None:
        """Let it be restarted so often, each time in vain, and the last one fail too."""
        for number in range(1, restarts + 1):
            await self.until_row(agent_id, lambda row, number=number: row.restarts >= number)
            await self.pass_time(0.0 if number == 1 else 0.5 * 2 ** (number - 2))

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for the supervisor, which then looks at everything that is due."""
        self.clock.now += seconds
        await self.look()

    async def look(self) -> None:
        """Wait until the supervisor has gone round twice: once at least from now on."""
        going, rounds = self.supervisor._rounds, 0
        real = going._work

        async def counted() -> float | None:
            nonlocal rounds
            pause = await real()
            rounds += 1
            return pause

        going._work = counted
        async with asyncio.timeout(TIMEOUT_S):
            while rounds < 2:
                self.supervisor.changed()
                await asyncio.sleep(0.001)
        going._work = real


def configure(version: AgentVersion) -> Configured:
    if "broken" in version.config:
        raise InvalidInput("configuration: broken: unknown")
    made = Echo(version.id, version=str(version.version), event=Job)
    made.start(made.node("only", nothing))
    return Configured(
        version=version,
        declaration=made,
        concurrency=version.config.get("concurrency", 4),
        idle_s=version.config.get("idle_s"),
    )


@pytest.fixture
def kit_now(kit: Kit, clock: Clock) -> Kit:
    """With a store whose clock is that of this machine, or a little behind."""
    clock.us = now_us() - 10_000_000
    return kit


@pytest.fixture
async def stand(kit_now: Kit) -> AsyncIterator[Stand]:
    made = Stand(kit_now)
    await made.hub.start()
    yield made
    await made.end()


# -- the plain way ---------------------------------------------------------------------------------


async def test_a_message_starts_the_process_that_answers_it(stand: Stand) -> None:
    agent = await stand.agent()
    assert stand.started == []
    assert await stand.row(agent) is None
    event_id = await stand.say(agent)
    worker, execution_id = await stand.turn(event_id)
    row = await stand.status(agent, P.RUNNING)
    assert (row.hub, row.pid, row.version) == (stand.kit.boot_id, worker.pid, 1)
    assert row.started_at is not None
    assert row.ready_at is not None
    worker.end(execution_id)
    assert (await stand.ended(event_id)).status is E.SUCCEEDED
    again = await stand.answered(await stand.say(agent))
    assert again is worker
    (run,) = await stand.executions(event_id)
    assert (run.kind, run.name, run.graph_version) == (AGENT, agent, "1")


async def test_many_chats_are_served_at_once_and_no_more_than_it_takes(stand: Stand) -> None:
    agent = await stand.agent(concurrency=3)
    ids = [await stand.say(agent, f"s{n}") for n in range(5)]
    await stand.until(lambda: stand.started and len(stand.newest.in_flight) == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(stand.newest.in_flight) == 3
    for event_id in ids:
        await stand.answered(event_id)
    assert len(stand.started) == 1


async def test_each_agent_has_a_process_of_its_own(stand: Stand) -> None:
    ada, bob = await stand.agent("ada"), await stand.agent("bob")
    first = await stand.answered(await stand.say(ada))
    second = await stand.answered(await stand.say(bob))
    assert (first.agent.id, second.agent.id) == (ada, bob)
    metrics = stand.kit.metrics
    assert metrics.get("holdfast_agent_turns_total", agent="ada", id=ada) == 1
    assert metrics.get("holdfast_agents") == 2


async def test_a_lost_doorbell_only_delays(stand: Stand) -> None:
    agent = await stand.agent()
    event_id = await stand.say(agent, ring=False)
    await stand.look()
    assert stand.started == []
    await stand.pass_time(SWEEP_S)
    await stand.answered(event_id)


async def test_its_ring_may_come_before_the_news_that_there_is_such_an_agent(stand: Stand) -> None:
    published, stand.kit.bus.publish = stand.kit.bus.publish, lambda _: None  # type: ignore[method-assign]
    agent = await stand.agent()
    stand.kit.bus.publish = published  # type: ignore[method-assign]
    event_id = await stand.say(agent)
    await stand.pass_time(1.0)
    await stand.answered(event_id)


# -- deaths, back-off, giving up -------------------------------------------------------------------


async def test_one_that_dies_is_started_at_once_and_then_with_pauses(stand: Stand) -> None:
    agent = await stand.agent()
    await stand.want(agent, restart=True)
    await stand.status(agent, P.RUNNING)
    stand.newest.die()
    await stand.until(lambda: len(stand.started) == 2)
    await stand.until_row(agent, lambda row: row.restarts == 1)
    for died, pause in ((2, 0.5), (3, 1.0)):
        stand.newest.die()
        await stand.until_row(agent, lambda row, died=died: row.restarts == died)
        await stand.pass_time(pause - 0.01)
        assert len(stand.started) == died
        assert (await stand.row(agent)).status is P.STARTING  # type: ignore[union-attr]
        await stand.pass_time(0.02)
        await stand.until(lambda died=died: len(stand.started) == died + 1)


async def test_a_turn_that_ended_makes_the_count_begin_anew(stand: Stand) -> None:
    agent = await stand.agent()
    for _ in range(2 * RULES.max_restarts):
        worker = await stand.answered(await stand.say(agent))
        before = len(stand.started)
        worker.die()
        await stand.until(lambda before=before: len(stand.started) > before)
    await stand.until_row(agent, lambda row: row.restarts == 1 and row.status is P.RUNNING)


async def test_so_does_a_while_in_service(stand: Stand) -> None:
    agent = await stand.agent()
    await stand.want(agent, restart=True)
    await stand.status(agent, P.RUNNING)
    stand.newest.die("out of memory")
    row = await stand.until_row(agent, lambda row: row.restarts == 1 and row.status is P.RUNNING)
    assert row.last_error == {"code": "process_died", "message": "out of memory"}
    await stand.pass_time(PROVEN_S)
    row = await stand.until_row(agent, lambda row: row.restarts == 0)
    assert row.last_error is None


async def test_one_that_never_starts_is_given_up_and_its_message_waits(stand: Stand) -> None:
    agent = await stand.agent()
    stand.refuse = "No module named 'tools'"
    event_id = await stand.say(agent)
    await stand.fail_until(agent, RULES.max_restarts)
    row = await stand.status(agent, P.ERROR)
    assert len(stand.started) == 1 + RULES.max_restarts
    assert row.last_error == {"code": "process_died", "message": "No module named 'tools'"}
    assert row.restarts == RULES.max_restarts
    row = await stand.until_row(agent, lambda row: row.hub is None)
    assert row.status is P.ERROR
    assert (await stand.event(event_id)).status is E.QUEUED
    # Neither time, nor a message, nor a change of mind of nobody starts it again.
    await stand.pass_time(10 * SWEEP_S)
    await stand.say(agent)
    await stand.look()
    assert len(stand.started) == 1 + RULES.max_restarts
    stand.refuse = None
    await stand.want(agent, restart=True)
    await stand.answered(event_id)
    assert (await stand.until_row(agent, lambda row: not row.restarts)).last_error is None


async def test_asking_how_it_stands_changes_nothing(stand: Stand) -> None:
    agent = await stand.agent()
    stand.refuse = "broken"
    await stand.say(agent)
    before = await stand.until_row(agent, lambda row: row.restarts == 2)
    for _ in range(100):
        assert await stand.row(agent) == before
    await stand.fail_until(agent, RULES.max_restarts)
    await stand.status(agent, P.ERROR)


async def test_a_configuration_that_cannot_be_read_is_an_error_of_that_agent_alone(
    stand: Stand,
) -> None:
    bad, good = await stand.agent("bad", broken=True), await stand.agent("good")
    event_id = await stand.say(bad)
    await stand.answered(await stand.say(good))
    await stand.fail_until(bad, RULES.max_restarts)
    row = await stand.status(bad, P.ERROR)
    assert row.last_error is not None
    assert row.last_error["message"] == "configuration: broken: unknown"
    await stand.change(bad, "bad")
    await stand.want(bad, restart=True)
    await stand.answered(event_id)


async def test_a_turn_whose_process_dies_runs_again_and_is_answered_once(stand: Stand) -> None:
    agent = await stand.agent()
    event_id = await stand.say(agent)
    worker, _ = await stand.turn(event_id)
    worker.die()
    await stand.answered(event_id)
    assert [one.status for one in await stand.executions(event_id)] == [X.CRASHED, X.SUCCEEDED]
    assert (await stand.event(event_id)).crashes == 1


async def test_the_last_chance_runs_in_a_process_of_its_own(stand: Stand) -> None:
    """A message that kills takes its neighbours along twice, and nobody the third time."""
    agent = await stand.agent()
    poison = await stand.say(agent, "s1")
    for _ in range(2):
        worker, _ = await stand.turn(poison)
        worker.die()
        await stand.pass_time(0.5)
    alone, _ = await stand.turn(poison)
    assert alone.solo
    neighbour = await stand.say(agent, "s2")
    beside, execution_id = await stand.turn(neighbour)
    assert beside is not alone
    assert beside.agent is alone.agent
    alone.die()
    assert (await stand.ended(poison)).status is E.DEAD
    beside.end(execution_id)
    assert (await stand.ended(neighbour)).crashes == 0


async def test_a_last_chance_that_gets_no_process_waits_for_one(stand: Stand) -> None:
    agent = await stand.agent()
    event_id = await stand.say(agent)
    for _ in range(2):
        worker, _ = await stand.turn(event_id)
        stand.refuse = "no more memory" if len(stand.started) == 2 else None
        worker.die()
        await stand.until_row(agent, lambda row, died=worker: row.restarts > 0)
        stand.refuse = None
        await stand.pass_time(0.5)
    alone, execution_id = await stand.turn(event_id)
    assert alone.solo
    alone.end(execution_id)
    event = await stand.ended(event_id)
    assert (event.status, event.crashes) == (E.SUCCEEDED, 2)


async def test_a_turn_that_is_given_up_with_its_hub_brings_a_word_too(
    stand: Stand, clock: Clock
) -> None:
    """No record of it ever comes: who takes it from the dead says it."""
    agent = await stand.agent()
    await stand.want(agent, "off")
    event_id = await stand.say(agent)
    dead = Claim(
        kind="agent", limit=1, lease_owner="dead", lease_us=1_000_000, versions={agent: ("1", "c")}
    )
    for _ in range(3):
        assert len(await stand.kit.store.write(dead)) == 1
        clock.us += 60_000_000
        await stand.hub._leases.reap()
    event = await stand.event(event_id)
    assert (event.status, event.crashes) == (E.DEAD, 3)
    _, sorry = await stand.kit.store.read(MessagesOf(event_id, LOCAL_OWNER))
    assert (sorry.role, sorry.content) == (Speaker.ASSISTANT, APOLOGIES["other"])


# -- idle, stop, start -----------------------------------------------------------------------------


async def test_an_idle_one_is_stopped_and_a_message_wakes_it(stand: Stand) -> None:
    agent = await stand.agent()
    worker = await stand.answered(await stand.say(agent))
    await stand.pass_time(RULES.idle_s - 1)
    assert worker.state is WorkerState.READY
    await stand.pass_time(1)
    row = await stand.status(agent, P.STOPPED)
    assert (row.hub, row.pid, row.wanted) == (None, None, "on")
    assert worker.state is WorkerState.GONE
    assert stand.supervisor.processes == {}
    other = await stand.answered(await stand.say(agent))
    assert other is not worker


async def test_one_with_a_turn_is_not_idle_however_long_that_takes(stand: Stand) -> None:
    agent = await stand.agent()
    event_id = await stand.say(agent)
    worker, execution_id = await stand.turn(event_id)
    await stand.pass_time(10 * RULES.idle_s)
    assert worker.state is WorkerState.READY
    worker.end(execution_id)
    await stand.pass_time(RULES.idle_s - 1)
    assert worker.state is WorkerState.READY
    await stand.pass_time(1)
    await stand.status(agent, P.STOPPED)


@pytest.mark.parametrize(("idle_s", "after"), [(7, 7), (0, None)])
async def test_an_agent_may_say_itself_when_it_is_idle(
    stand: Stand, idle_s: int, after: int | None
) -> None:
    agent = await stand.agent(idle_s=idle_s)
    worker = await stand.answered(await stand.say(agent))
    await stand.pass_time(after or 100 * RULES.idle_s)
    await stand.look()
    assert (worker.state is WorkerState.GONE) == (after is not None)


async def test_a_message_that_comes_while_it_stops_is_not_lost(stand: Stand) -> None:
    agent = await stand.agent()
    worker = await stand.answered(await stand.say(agent))
    worker.leaves = False
    await stand.pass_time(RULES.idle_s)
    await stand.status(agent, P.STOPPING)
    event_id = await stand.say(agent)
    await stand.look()
    assert stand.alive == [worker]
    worker.die("stopped")
    assert await stand.answered(event_id) is not worker


async def test_a_stop_lets_its_turns_end_and_its_messages_wait(stand: Stand) -> None:
    agent = await stand.agent()
    first = await stand.say(agent, "s")
    worker, execution_id = await stand.turn(first)
    await stand.want(agent, "off")
    await stand.status(agent, P.STOPPING)
    second = await stand.say(agent, "s")
    worker.end(execution_id)
    assert (await stand.ended(first)).status is E.SUCCEEDED
    row = await stand.status(agent, P.STOPPED)
    assert (row.wanted, row.hub) == ("off", None)
    await stand.pass_time(10 * SWEEP_S)
    assert (await stand.event(second)).status is E.QUEUED
    assert stand.alive == []
    await stand.want(agent, "on", restart=True)
    await stand.answered(second)


async def test_a_start_needs_no_message_and_no_notice(stand: Stand) -> None:
    agent = await stand.agent()
    published, stand.kit.bus.publish = stand.kit.bus.publish, lambda _: None  # type: ignore[method-assign]
    await stand.want(agent, restart=True)
    stand.kit.bus.publish = published  # type: ignore[method-assign]
    await stand.pass_time(SWEEP_S)
    await stand.status(agent, P.RUNNING)


async def test_a_process_that_does_not_leave_is_ended(stand: Stand) -> None:
    agent = await stand.agent()
    event_id = await stand.say(agent)
    worker, _ = await stand.turn(event_id)
    worker.leaves = False
    await stand.want(agent, "off")
    await stand.status(agent, P.STOPPING)
    await stand.pass_time(RULES.grace_s - 1)
    assert worker.signals == []
    await stand.pass_time(1)
    assert worker.signals == ["TERM"]
    await stand.pass_time(TERM_S)
    assert worker.signals == ["TERM", "KILL"]
    await stand.status(agent, P.STOPPED)
    assert (await stand.event(event_id)).status is E.QUEUED


async def test_a_deleted_agent_leaves_nothing_running(stand: Stand) -> None:
    agent = await stand.agent()
    worker = await stand.answered(await stand.say(agent))
    await stand.kit.store.write(DeleteAgent(agent, LOCAL_OWNER))
    stand.kit.bus.publish(Notice(AGENTS, target=agent))
    await stand.until(lambda: worker.state is WorkerState.GONE)
    await stand.until(lambda: stand.supervisor.processes == {})
    assert agent not in stand.kit.registry


# -- new versions ----------------------------------------------------------------------------------


async def test_a_new_version_is_in_service_before_the_old_one_leaves(stand: Stand) -> None:
    agent = await stand.agent()
    first = await stand.say(agent, "s1")
    old, execution_id = await stand.turn(first)
    stand.ready_at_once = False
    await stand.change(agent, concurrency=2)
    await stand.until(lambda: len(stand.started) == 2)
    second = await stand.say(agent, "s2")
    assert (await stand.turn(second))[0] is old, "the new one is not ready yet"
    stand.newest.be_ready()
    third = await stand.say(agent, "s3")
    new, _ = await stand.turn(third)
    assert new is stand.newest
    assert old.state is WorkerState.RETIRING
    assert (await stand.until_row(agent, lambda row: row.version == 2)).pid == new.pid
    old.end(execution_id)
    await stand.answered(second)
    assert old.state is WorkerState.GONE
    await stand.answered(third)
    versions = [(await stand.executions(one))[0].graph_version for one in (first, second, third)]
    assert versions == ["1", "1", "2"]
    assert (await stand.row(agent)).restarts == 0  # type: ignore[union-attr]


async def test_a_new_version_that_cannot_start_leaves_the_old_one_in_service(
    stand: Stand,
) -> None:
    agent = await stand.agent()
    old = await stand.answered(await stand.say(agent))
    stand.refuse = "no such tool"
    await stand.change(agent, concurrency=2)
    await stand.fail_until(agent, RULES.max_restarts)
    assert len(stand.started) == 2 + RULES.max_restarts
    assert await stand.answered(await stand.say(agent)) is old
    row = await stand.until_row(agent, lambda row: row.restarts == RULES.max_restarts)
    assert (row.status, row.version) == (P.RUNNING, 1)
    assert row.last_error == {"code": "process_died", "message": "no such tool"}
    stand.refuse = None
    await stand.change(agent, concurrency=3)
    await stand.until_row(agent, lambda row: row.version == 3)
    row = await stand.until_row(agent, lambda row: row.last_error is None)
    assert row.restarts == 0


async def test_a_restart_that_is_asked_for_replaces_the_process(stand: Stand) -> None:
    agent = await stand.agent()
    old = await stand.answered(await stand.say(agent))
    await stand.want(agent, restart=True)
    await stand.until(lambda: old.state is WorkerState.GONE)
    assert await stand.answered(await stand.say(agent)) is stand.started[1]
    assert len(stand.started) == 2


async def test_one_that_must_leave_for_code_it_could_not_stop_is_replaced(stand: Stand) -> None:
    agent = await stand.agent()
    held = await stand.say(agent, "s1")
    old, execution_id = await stand.turn(held)
    old.retire()  # as a runner does whose threads run code nobody waits for
    event_id = await stand.say(agent, "s2")
    assert await stand.answered(event_id) is not old
    old.end(execution_id)
    assert (await stand.ended(held)).status is E.SUCCEEDED
    assert (await stand.row(agent)).restarts == 0  # type: ignore[union-attr]


# -- several hubs, and hubs that end ---------------------------------------------------------------


def another(kit: Kit, tmp_path: Any, exchange: Exchange) -> Kit:
    boot_id, metrics = new_id(), Metrics()
    return replace(
        kit,
        boot_id=boot_id,
        metrics=metrics,
        registry=Registry([pipeline("p")]),
        journal=Journal(tmp_path / "other", boot_id, ASSESSOR, metrics),
        bus=MemoryBus(boot_id, exchange),
    )


async def test_one_of_two_hubs_holds_an_agent_and_the_other_follows_when_it_stops(
    kit_now: Kit, tmp_path: Any
) -> None:
    exchange = Exchange()
    kits = [
        replace(kit_now, bus=MemoryBus(kit_now.boot_id, exchange)),
        another(kit_now, tmp_path, exchange),
    ]
    stands = [Stand(one) for one in kits]
    for stand in stands:
        await stand.kit.bus.start()
        await stand.hub.start()
    first, second = stands
    agent = await first.agent()
    await second.until(lambda: agent in second.kit.registry)
    ids = [await first.say(agent, f"s{n}") for n in range(3)]
    holder = await first.until(
        lambda: next(
            (one for one in stands if one.started and len(one.newest.in_flight) == 3), None
        )
    )
    (other,) = [one for one in stands if one is not holder]
    assert other.started == []
    for event_id in ids[:2]:
        await holder.answered(event_id)
    closing = asyncio.create_task(holder.hub.close())
    await holder.until(lambda: holder.newest.state is WorkerState.RETIRING)
    late = await other.say(agent, "s9")
    holder.clock.now += RULES.grace_s + 1
    holder.supervisor.changed()
    await holder.until(lambda: holder.newest.signals == ["TERM"])
    holder.clock.now += TERM_S
    holder.supervisor.changed()
    await closing
    for event_id in (ids[2], late):
        await other.pass_time(ELSEWHERE_S)
        await other.answered(event_id)
    assert (await other.event(ids[2])).crashes == 0, "it was the hub that stopped"
    await other.end()
    row = await other.row(agent)
    assert row is not None
    assert (row.status, row.hub) == (P.STOPPED, None)
    kits[1].journal.close()


async def test_what_a_hub_lost_it_no_longer_claims_for(stand: Stand, clock: Clock) -> None:
    agent = await stand.agent()
    worker = await stand.answered(await stand.say(agent))
    clock.us += 60_000_000  # it stood still for longer than its lease
    (row,) = await stand.kit.store.write(
        TakeProcesses(
            kind=AGENT, targets=[(agent, LOCAL_OWNER)], hub="b", host="", lease_us=60_000_000
        )
    )
    await stand.pass_time(RULES.check_s)
    await stand.until(lambda: worker.state is WorkerState.GONE)
    event_id = await stand.say(agent)
    await stand.pass_time(SWEEP_S)
    assert (await stand.event(event_id)).status is E.QUEUED
    assert await stand.row(agent) == row, "nothing of ours was written over it"


async def test_a_hub_that_cannot_beat_claims_for_none(stand: Stand) -> None:
    agent = await stand.agent()
    await stand.answered(await stand.say(agent))
    assert stand.supervisor.serving
    stand.store.fail("BeatProcesses", 1000)
    stand.clock.now += 20.0
    assert not stand.supervisor.serving
    stand.store.plans.clear()
    await stand.pass_time(0.0)
    assert stand.supervisor.serving


async def test_what_a_dead_hub_left_running_is_stopped_or_started(
    stand: Stand, clock: Clock
) -> None:
    idle, asked = await stand.agent("idle"), await stand.agent("busy")
    targets = [(idle, LOCAL_OWNER), (asked, LOCAL_OWNER)]
    store = stand.kit.store
    await store.write(
        TakeProcesses(kind=AGENT, targets=targets, hub="dead", host="", lease_us=15_000_000)
    )
    event_id = await stand.say(asked, ring=False)
    await stand.pass_time(SWEEP_S)
    assert stand.started == [], "its lease has not run out"
    clock.us += 60_000_000
    await stand.pass_time(SWEEP_S)
    await stand.answered(event_id)
    assert {one.agent.id for one in stand.started} <= {idle, asked}
    clock.us = now_us()
