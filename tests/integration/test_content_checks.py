"""Content checks from the settings to the wire and the record, against a provider's fake."""

from __future__ import annotations

import json

import pytest
from tests.apps.checks_app import plain

import holdfast
from holdfast import settings
from holdfast.ports import ModelConfig
from holdfast.testing.providers import FakeOpenAI

from .test_four_providers import Runs

SECRET = "sk-" + "proj-" + "aB3dE6gH9jK2mN5pQ8sT"
MAIL = "eva@example.org"
OTHER = "tom@example.org"


@pytest.fixture
def server():
    with FakeOpenAI(["Noted."]) as fake:
        yield fake


@pytest.fixture
def hub(hub_environ, server):
    def connected(*rules, **more):
        models = {"fast": {"model": "openai:gpt-6-luna", "base_url": server.url}}
        environ = {
            **hub_environ,
            "HOLDFAST_APPS": "checks_app",
            "HOLDFAST_MODELS": json.dumps(models),
            **more,
        }
        if rules:
            environ["HOLDFAST_CHECKS"] = json.dumps(rules)
        return holdfast.connect(settings.load(environ=environ))

    return connected


async def done(client, pipeline, body):
    event = await client.submit(pipeline, {"body": body}, wait=30)
    return event, await client.execution(event["execution_id"])


def sent(server):
    return [one["content"] for request in server.requests for one in request.body["messages"]]


def calls(record):
    """All that the record holds of its model calls."""
    return json.dumps([step["attempts"] for step in record["steps"]])


async def test_flags_change_nothing_for_the_caller(hub, server):
    server.answer([f"Write to {OTHER}"])
    async with hub({"check": "personal", "action": "flag"}) as client:
        event, record = await done(client, "letters.plain", f"I am {MAIL}")
    assert event["status"] == "succeeded"
    assert sent(server) == [f"Letter: I am {MAIL}"]
    assert record["output"] == f"Write to {OTHER}"
    (step,) = record["steps"]
    assert step["suspicious"] == ["personal: e-mail", "personal: e-mail (in the answer)"]
    assert record["flags"]["suspicious"] == step["suspicious"]


async def test_redacted_before_the_model_and_before_the_answer_goes_on(hub, server):
    server.answer([f"Dear {MAIL}, cc {OTHER}"])
    async with hub({"check": "personal", "action": "redact"}) as client:
        event, record = await done(client, "letters.plain", f"{MAIL} and {MAIL}")
    assert event["status"] == "succeeded"
    assert sent(server) == ["Letter: [E-MAIL 1] and [E-MAIL 1]"]
    assert record["output"] == "Dear [E-MAIL 1], cc [E-MAIL 2]"
    assert MAIL not in calls(record)
    assert OTHER not in json.dumps(record)
    (step,) = record["steps"]
    assert step["suspicious"] == [
        "redacted: personal: 2 e-mail",
        "redacted: personal: 2 e-mail (in the answer)",
    ]
    (attempt,) = step["attempts"]
    (request,) = server.requests
    assert attempt["tokens"]["input"] == request.tokens_input


async def test_placeholders_mean_the_same_through_an_execution(hub, server):
    server.answer([f"{OTHER} wrote", "Done."])
    async with hub() as client:
        event, record = await done(client, "letters.twice", MAIL)
    assert event["status"] == "succeeded"
    assert sent(server) == ["Letter: [E-MAIL 1]", "Again: [E-MAIL 1] / [E-MAIL 2] wrote"]
    assert MAIL not in calls(record)


async def test_nothing_refused_is_sent_or_recorded(hub, server):
    async with hub({"check": "secrets", "on": "input", "action": "refuse"}) as client:
        event, record = await done(client, "letters.plain", f"my key is {SECRET}")
    assert event["status"] == "failed"
    assert server.requests == []
    (step,) = record["steps"]
    assert step["attempts"] == []
    assert step["error"]["code"] == "content_refused"
    assert "secrets found OpenAI key" in step["error"]["message"]
    assert record["flags"]["suspicious"] == [step["error"]["message"]]
    assert SECRET not in json.dumps([step["error"], record["error"], calls(record)])


async def test_an_answer_that_is_refused_goes_nowhere(hub, server):
    server.answer(["Sure: <script>steal()</script>"])
    async with hub() as client:
        event = await client.submit("letters.mute", {"body": "hi"}, wait=30)
        notices = [entry async for entry in client.follow(event["execution_id"])]
        record = await client.execution(event["execution_id"])
    assert event["status"] == "failed"
    assert len(server.requests) == 1  # asked once: it is permanent
    assert "steal" not in json.dumps(record)
    assert "steal" not in str(notices)
    (attempt,) = record["steps"][0]["attempts"]
    assert attempt["status"] == "failed"
    assert attempt["error"]["code"] == "content_refused"


@pytest.mark.parametrize("action", ["redact", "refuse"])
async def test_no_piece_of_an_answer_is_shown_before_it_was_checked(server, action):
    server.answer([f"Dear {OTHER} and so on"])
    shown = {}
    for rules in ([], [{"check": "personal", "on": "output", "action": action}]):
        config = ModelConfig(
            alias="fast", provider="openai", model="m", base_url=server.url, checks=rules
        )
        runs = Runs([plain], {"fast": config})
        (record,) = await runs.records([runs.start("letters.plain", "hi")])
        pieces = runs.sink.tokens_of.get(record.running.id, [])
        shown[len(rules)] = "".join(text for _, text in pieces)
    assert shown == {0: f"Dear {OTHER} and so on", 1: ""}


async def test_a_structured_answer_stays_json(hub, server):
    server.answer([json.dumps({"to": OTHER, "text": "hi"})])
    async with hub() as client:
        event, record = await done(client, "letters.structured", "hi")
    assert event["status"] == "succeeded"
    assert record["output"] == {"to": "[E-MAIL 1]", "text": "hi"}


async def test_a_nodes_rules_stand_beside_those_of_the_settings(hub, server):
    async with hub({"check": "personal", "action": "redact"}) as client:
        refused, _ = await done(client, "letters.strict", SECRET)
        passed, _ = await done(client, "letters.strict", MAIL)
    assert (refused["status"], passed["status"]) == ("failed", "succeeded")
    assert sent(server) == ["Letter: [E-MAIL 1]"]


RULES = [
    {"check": "personal", "on": "input", "action": "flag"},
    {"check": "personal", "on": "output", "action": "redact"},
    {"check": "secrets", "on": "input", "action": "refuse"},
]


async def test_executions_are_listed_by_whether_anything_was_found(hub, server):
    server.answer([f"Dear {OTHER} and {MAIL}", "Nobody."])
    async with hub(*RULES) as client:
        flagged, _ = await done(client, "letters.plain", MAIL)
        clean, _ = await done(client, "letters.plain", "hi")
        refused, _ = await done(client, "letters.plain", SECRET)
        listed = await client.executions_page(suspicious=True)
        others = await client.executions_page(suspicious=False)
    assert [one["event_id"] for one in listed["items"]] == [refused["id"], flagged["id"]]
    assert [one["event_id"] for one in others["items"]] == [clean["id"]]


async def test_what_was_found_is_counted_by_check_action_and_side(open_hub, hub_environ, server):
    server.answer([f"Dear {OTHER} and {MAIL}"])
    hub_environ |= {
        "HOLDFAST_APPS": "checks_app",
        "HOLDFAST_CHECKS": json.dumps(RULES),
        "HOLDFAST_MODELS": json.dumps(
            {"fast": {"model": "openai:gpt-6-luna", "base_url": server.url}}
        ),
    }
    async with open_hub(runners=1) as hub:
        await hub.run("letters.plain", body=MAIL)
        await hub.run("letters.plain", body=SECRET)
        counted = hub.kit.metrics.render()
    lines = {line for line in counted.splitlines() if line.startswith("holdfast_content_checks")}
    assert lines == {
        'holdfast_content_checks_total{action="flag",check="personal",side="input"} 1',
        'holdfast_content_checks_total{action="redact",check="personal",side="output"} 1',
        'holdfast_content_checks_total{action="refuse",check="secrets",side="input"} 1',
    }


async def test_a_check_of_ones_own(hub, server):
    rule = {"check": "checks_app:words", "on": "input", "action": "redact"}
    async with hub(rule) as client:
        await done(client, "letters.plain", "I am Rumpelstilzchen")
    assert sent(server) == ["Letter: I am [NAME 1]"]


async def test_a_redacting_check_that_fails_lets_nothing_through(hub, server):
    async with hub({"check": "checks_app:broken", "on": "input", "action": "redact"}) as client:
        event, _ = await done(client, "letters.plain", "x")
    assert event["status"] == "failed"
    assert server.requests == []


async def test_in_runner_processes_too(open_hub, hub_environ, server):
    rules = [{"check": "personal", "action": "redact"}]
    hub_environ |= {
        "HOLDFAST_APPS": "checks_app",
        "HOLDFAST_CHECKS": json.dumps(rules),
        "HOLDFAST_MODELS": json.dumps(
            {"fast": {"model": "openai:gpt-6-luna", "base_url": server.url}}
        ),
    }
    async with open_hub(runners=1) as hub:
        _, whole = await hub.run("letters.plain", body=MAIL)
    assert sent(server) == ["Letter: [E-MAIL 1]"]
    assert whole.steps[0].suspicious == ["redacted: personal: 1 e-mail"]
