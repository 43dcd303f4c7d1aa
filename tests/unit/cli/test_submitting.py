"""Submitting many events: bad lines, order, what came of each."""

from __future__ import annotations

import asyncio
import io
import threading
from decimal import Decimal

import orjson
import pytest
from rich.console import Console

from holdfast.cli.lines import FIELDS, Line, count_lines, given, open_lines
from holdfast.cli.submitting import Fate, Sum, Wish, outcome_of, submit_all
from holdfast.cli.summary import fate_table, refusal, summary_line
from holdfast.errors import HubUnreachable, InvalidInput, UnknownPipeline

ACCEPT = Wish(wait=None, concurrency=4)
WAIT = Wish(wait=5.0, concurrency=4)


class Hub:
    """A client of a hub that knows one pipeline; its output is the event's own text."""

    def __init__(self, execution=None):
        self.submitted = []
        self.at_once = self.most = 0
        self.execution = execution
        self.gone = False
        self.asked = 0

    async def submit(self, type, data, **rest):
        self.asked += 1
        if self.gone:
            raise HubUnreachable("no hub answers")
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if type != "notes":
            raise UnknownPipeline(f"there is no pipeline {type!r}", hint="did you mean notes?")
        self.submitted.append((data, rest))
        return {"id": f"e-{data}", "status": "queued", "created": True}

    async def wait(self, event_id, timeout):
        if event_id == "e-slow":
            raise TimeoutError
        failed = event_id == "e-bad"
        return {
            "status": "failed" if failed else "succeeded",
            "last_error": {"code": "step_failed", "message": "it broke"} if failed else None,
            "executions": [self.execution(), self.execution(id="an earlier delivery")],
            "result": {"output": {"outcome": event_id}},
        }

    async def event(self, event_id):
        return {"status": "running", "last_error": None, "executions": [], "result": None}


async def submit(client, lines, wish=ACCEPT):
    fates = []
    await submit_all(client, iter(lines), wish, fates.append)
    return sorted(fates, key=lambda fate: fate.line)


def line(number, pipeline="notes", data="hi", **more):
    return Line(number, orjson.dumps({"type": pipeline, "data": data, **more}))


async def test_a_bad_line_is_told_with_its_number_and_field_and_the_others_go_on():
    fates = await submit(
        Hub(),
        [
            line(1),
            Line(2, b"{nope"),
            Line(4, b"[]"),
            line(5, tpye="x", priority="high"),
            Line(6, b'{"type": 7}'),
            line(7, "unknown"),
            line(8, time="yesterday"),
            Line(9, b'{"type": "notes", "data": "\xff"}'),
            line(10, time="2026-11-02T14:00:00Z", priority=2, subject="s"),
        ],
    )

    told = {fate.line: refusal(fate.error) for fate in fates if fate.status == "refused"}
    assert [fate.line for fate in fates if fate.status == "queued"] == [1, 10]
    assert told[2].startswith("not JSON: ")
    assert told[4].startswith("not a JSON object")
    assert told[5] == (
        f"tpye: expected one of {', '.join(FIELDS)}, got an unknown field; "
        "priority: expected a whole number, got str"
    )
    assert told[6] == "data: expected a value, got nothing; type: expected text, got int"
    assert told[7] == "there is no pipeline 'unknown' (did you mean notes?)"
    assert told[8] == "time: expected an RFC 3339 time, got yesterday"
    assert told[9].startswith("not JSON: ")


async def test_waiting_gives_outcomes_and_the_cost_of_every_delivery(execution):
    fates = await submit(Hub(execution), [line(1), line(2, data="bad"), line(3, data="slow")], WAIT)

    good, bad, slow = fates
    assert (good.status, good.outcome) == ("succeeded", "e-hi")
    assert good.view()["cost_usd"] == "0.00052"  # two runs of 0.00026
    assert (bad.status, bad.error["message"]) == ("failed", "it broke")
    assert (slow.status, slow.execution_id) == ("running", None)


async def test_no_more_at_once_than_asked_for():
    hub = Hub()
    await submit(hub, [line(n) for n in range(1, 41)])

    assert len(hub.submitted) == 40
    assert hub.most == ACCEPT.concurrency


async def test_a_hub_that_goes_away_ends_it():
    hub = Hub()
    hub.gone = True

    with pytest.raises(HubUnreachable):
        await submit(hub, [line(n) for n in range(1, 100)])
    assert hub.asked <= 2 * ACCEPT.concurrency


async def test_what_was_accepted_is_told_when_the_hub_goes_away_later():
    class Leaving(Hub):
        async def wait(self, event_id, timeout):
            raise HubUnreachable("it went away")

    fates = []
    with pytest.raises(HubUnreachable, match="went away"):
        await submit_all(Leaving(), iter([line(1)]), WAIT, fates.append)

    assert [(fate.event_id, fate.status) for fate in fates] == [("e-hi", "queued")]


async def test_an_interrupt_still_hears_what_the_hub_says():
    asked, answer, more = asyncio.Event(), asyncio.Event(), threading.Event()

    def lines():  # the second never comes: the other tasks wait for input
        yield line(1)
        more.wait()

    class Busy(Hub):
        async def submit(self, type, data, **rest):
            asked.set()
            await answer.wait()
            return await super().submit(type, data, **rest)

    fates = []
    work = asyncio.create_task(submit_all(Busy(), lines(), ACCEPT, fates.append))
    await asked.wait()
    work.cancel()
    await asyncio.sleep(0)
    answer.set()

    with pytest.raises(asyncio.CancelledError):
        await work
    more.set()
    assert [fate.event_id for fate in fates] == ["e-hi"]


async def test_a_file_is_read_no_faster_than_it_is_submitted():
    handed_out = 0
    most_ahead = 0
    hub = Hub()

    def lines():
        nonlocal handed_out, most_ahead
        for n in range(1, 101):
            handed_out += 1
            most_ahead = max(most_ahead, handed_out - len(hub.submitted))
            yield line(n)

    await submit_all(hub, lines(), ACCEPT, lambda fate: None)

    assert handed_out == 100
    assert most_ahead <= 2 * ACCEPT.concurrency


def test_blank_lines_are_left_out_and_do_not_shift_the_numbers(tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{"a":1}\r\n\n   \n{"b":2}')

    with open_lines(str(file)) as lines:
        assert list(lines) == [Line(1, b'{"a":1}'), Line(4, b'{"b":2}')]
    assert count_lines(str(file)) == 2
    assert count_lines("-") is None


def test_a_missing_file_is_named(tmp_path):
    with (
        pytest.raises(InvalidInput, match=r"nowhere\.jsonl cannot be read"),
        open_lines(str(tmp_path / "nowhere.jsonl")),
    ):
        pass


def test_options_make_one_event():
    event = Line(0, given("notes", '{"x": 1}', idempotency_key="k", delay=None)).event()

    assert event == {"type": "notes", "data": {"x": 1}, "idempotency_key": "k"}
    with pytest.raises(InvalidInput, match="--data is not JSON"):
        given("notes", "{")


@pytest.mark.parametrize(
    ("output", "outcome"),
    [
        ({"outcome": "answered", "status": "x"}, "answered"),
        ({"action": "closed as spam"}, "closed as spam"),
        ({"status": "done"}, "done"),
        ({"outcome": 3}, None),
        ({"outcome": "x" * 61}, None),
        ({"outcome": ""}, None),
        ("answered", None),
        (None, None),
    ],
)
def test_outcomes_are_a_few_words(output, outcome):
    assert outcome_of(output) == outcome


def fate(n, status="succeeded", outcome=None, **fields):
    return Fate(line=n, status=status, event_id=f"e{n}", outcome=outcome, **fields)


def test_the_line_of_the_design(execution):
    fates = [fate(n, outcome="answered") for n in range(9)]
    fates += [fate(n, outcome="closed as spam") for n in range(2)]
    fates.append(fate(1, outcome="escalated", executions=[execution(cost_usd="0.0031")]))

    told = summary_line(fates, 12, 2.4, 200).plain

    assert told == (
        f"12/12 {'━' * 20} 0:00:02  9 answered · 2 closed as spam · 1 escalated"
        "  1,204 tokens  $0.0031"
    )


def test_failures_come_last_and_costs_move_down_when_they_do_not_fit(execution):
    unknown = execution(unknown={"usage": 1, "cost": 1}, credits=2)
    fates = [
        fate(1, "failed", "answered"),
        fate(2, "failed"),
        fate(3, "refused"),
        fate(4, executions=[unknown]),
    ]

    first, second = summary_line(fates, 5, 3661, 80).plain.splitlines()

    assert first == f"4/5 {'━' * 20} 1:01:01  1 succeeded · 2 failed · 1 refused"
    assert second == "1,204 + ? tokens  $0.00026 + ?  2 credits"


@pytest.mark.parametrize("width", [100, 140])
def test_the_table_keeps_ids_whole_and_text_on_one_line(execution, width):
    fates = [
        Fate(
            line=1,
            status="failed",
            event_id="0199c0de-0000-7000-8000-000000000002",
            executions=[execution()],
            error={"message": "[red]no\x1b[31m " + "long " * 50},
        )
    ]
    out = Console(file=io.StringIO(), width=width, markup=False)
    out.print(fate_table(fates, width))
    header, row = out.file.getvalue().splitlines()

    assert "0199c0de-0000-7000-8000-000000000002" in row
    assert ("0199c0de-0000-7000-8000-000000000001" in row) is (width == 140)
    assert "[red]no␛[31m" in row
    assert row.rstrip().endswith("$0.00026")
    assert header.split()[0] == "line"


def test_sums_are_exact():
    assert Sum.of([]).view() == {
        "tokens": 0,
        "cost_usd": "0",
        "credits": 0,
        "unknown": {"usage": 0, "cost": 0},
        "estimated": False,
    }
    assert Sum(cost_usd=Decimal("0.000000000001")).view()["cost_usd"] == "0.000000000001"
