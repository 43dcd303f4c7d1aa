"""Agents, processes and sessions on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from holdfast.cli.agent_tables import (
    agent_sheet,
    agent_versions_table,
    agents_table,
    message_lines,
    process_sheet,
    session_sheet,
    sessions_table,
)

SESSION = "0199c0de-0000-7000-8000-000000000001"
THEN = "2026-11-02T14:03:22.000000Z"


def process(**fields):
    return {
        "status": "running",
        "wanted": "on",
        "pid": 4711,
        "hub": "h",
        "host": "box",
        "version": 3,
        "started_at": THEN,
        "ready_at": THEN,
        "heartbeat_at": THEN,
        "restarts": 0,
        "last_error": None,
        **fields,
    }


NEVER = process(
    status="stopped",
    pid=None,
    host=None,
    version=None,
    started_at=None,
    ready_at=None,
    heartbeat_at=None,
)
DEAD = process(status="error", restarts=5, last_error={"message": "no module \x1b[31mtools"})


def agent(name="desk", settings=None, **fields):
    return {
        "id": "a1",
        "name": name,
        "description": "Helps.",
        "version": 3,
        "kind": "simple",
        "config": {"simple": {"settings": settings or {"model": "standard"}}},
        "updated_at": THEN,
        "process": process(),
        **fields,
    }


def drawn(*things, width=100):
    out = Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)
    for thing in things:
        out.print(thing, soft_wrap=not isinstance(thing, Table))
    return out.file.getvalue()


def rows(thing, width=100):
    return [line.split() for line in drawn(thing, width=width).splitlines()[1:]]


def test_agents_are_listed_with_what_answers_and_where_they_stand():
    graph = {"graph": {"settings": {"graph": "my.graphs:flow"}}}
    listed = [
        agent(),
        agent("own", {"provider": "openai", "model_id": "gpt"}, process=NEVER),
        agent("flow", kind="graph", config=graph, process=process(status="stopped", wanted="off")),
        agent("dead", process=DEAD),
    ]
    assert rows(agents_table(listed, 100)) == [
        ["desk", "simple", "standard", "running", "3", "Helps."],
        ["own", "simple", "openai:gpt", "stopped", "3", "Helps."],
        ["flow", "graph", "my.graphs:flow", "stopped", "(off)", "3", "Helps."],
        ["dead", "simple", "standard", "error", "3", "no", "module", "␛[31mtools"],
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_a_list_keeps_to_the_width(width):
    listed = [agent("desk" * 6, description="many words " * 20)]
    lines = drawn(agents_table(listed, width), width=width).splitlines()
    assert len(lines) == 2
    assert lines[1].rstrip().endswith("…")
    assert all(len(line) <= width for line in lines)


def test_a_process_is_told_whole():
    told = drawn(*process_sheet("desk", DEAD))
    assert "  state      error\n" in told
    assert "  process    4711 on box\n" in told
    assert "  restarts   5\n" in told
    assert "  error      no module ␛[31mtools\n" in told
    assert drawn(*process_sheet("desk", NEVER)) == "agent desk\n  state      stopped\n"


def test_a_status_says_who_writes_the_summaries() -> None:
    does = {"enabled": True, "model": "fast", "reason": ""}
    assert "summaries  by fast\n" in drawn(*process_sheet("desk", NEVER | {"compaction": does}))
    never = {"enabled": False, "model": None, "reason": "its memory is off"}
    told = drawn(*process_sheet("desk", NEVER | {"compaction": never}))
    assert "summaries  none: its memory is off\n" in told


def test_a_version_that_brings_another_back_says_so():
    version = {**agent(), "author": "file:a.yaml", "created_at": THEN, "undoes": 1}
    assert rows(agent_versions_table([version], 100))[0][3:] == [
        *("file:a.yaml", "standard"),
        *("brings", "back", "1:", "Helps."),
    ]
    assert "  about      Helps.\n" in drawn(*agent_sheet(agent()))


def session(**fields):
    return {
        "id": SESSION,
        "agent": {"id": "a1", "name": "desk"},
        "title": "Where is it?",
        "channel": "cli",
        "chat_id": None,
        "status": "active",
        "turns": 1,
        "messages": 2,
        "created_at": THEN,
        "updated_at": THEN,
        **fields,
    }


def test_the_id_of_a_session_is_never_cut():
    assert SESSION in drawn(sessions_table([session(title="long " * 50)], 60), width=60)
    told = drawn(*session_sheet(session(chat_id="42")))
    assert "  channel    cli 42\n" in told
    assert "  length     1 turn, 2 messages\n" in told


def message(**fields):
    return {
        "role": "assistant",
        "content": "One.\n\nTwo \x1b[31m.",
        "created_at": THEN,
        "execution_id": None,
        "feedback": None,
        "comment": None,
        "summarised": False,
        "summary_of": [],
        **fields,
    }


def test_a_message_has_its_words_and_what_became_of_it():
    liked = message(execution_id="x1", feedback="like", comment="good", summarised=True)
    told = drawn(*message_lines(liked, "desk"))
    assert told.startswith("desk  2026-11-02 ")
    assert " · execution x1 · summarised · liked · “good”\n  One.\n\n  Two ␛[31m.\n" in told
    assert drawn(*message_lines(message(role="user"), "desk")).startswith("user  ")
    summary = message(role="summary", summary_of=["a", "b"])
    assert " · of 2 messages\n" in drawn(*message_lines(summary, "desk"))
