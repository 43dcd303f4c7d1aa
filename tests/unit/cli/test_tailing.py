"""Following an execution, entry by entry."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from holdfast.cli.tailing import Tail, follow
from holdfast.client import Entry


@pytest.fixture
def out():
    return Console(file=io.StringIO(), width=100, markup=False, highlight=False, emoji=False)


def started(number, operation, kind="node"):
    return {"step": number, "parent": None, "kind": kind, "operation": operation}


def test_streamed_text_stands_on_its_own_line(out, step):
    tail = Tail(out)
    tail.take("step.started", started(1, "say", "model"))
    tail.take("tokens", {"step": 1, "text": "Hel"})
    tail.take("tokens", {"step": 1, "text": "lo [red]\x1b[31m"})
    tail.take("tokens", {"step": 1, "text": "Hello again", "so_far": True})
    tail.take("step.started", started(2, "other"))
    tail.take("heartbeat", {})
    tail.take("step.finished", step("say", step=1, status="failed", error={"message": "no"}))

    assert out.file.getvalue().splitlines() == [
        "▸ say  model",
        "  say Hello [red]␛[31m",
        "  say Hello again",
        "▸ other  node",
        "✗ say  failed  311 ms  no",
    ]


def test_decisions_skips_and_the_end_are_told(out, step, execution):
    tail = Tail(out)
    tail.take("execution.started", {"id": "x", "event_id": "e", "name": "support.triage"})
    for number, name in enumerate(("route", "maybe"), 1):
        tail.take("step.started", started(number, name))
    chosen = {"target": "draft", "rule": None, "fallback": True}
    tail.take("step.finished", step("route", "router", step=1, output=chosen))
    tail.take("step.finished", step("maybe", step=2, status="skipped", skip_reason="not today"))
    tail.take("execution.finished", execution(status="partial"))

    told = out.file.getvalue()
    assert "✓ route  → draft (otherwise)  311 ms" in told
    assert "– maybe  skipped  311 ms  not today" in told
    assert told.endswith("support.triage v1  partial  412 ms  1,204 tokens  $0.00026\n")


@pytest.mark.parametrize(
    ("status", "well"), [("succeeded", True), ("partial", True), ("failed", False)]
)
async def test_the_end_decides(execution, status, well, capsys):
    class Client:
        async def follow(self, execution_id):
            yield Entry("x:9", "execution.finished", execution(status=status))

    assert await follow(Client(), "x", as_json=True) is well
    assert capsys.readouterr().out.startswith('{"id":"x:9","type":"execution.finished"')
