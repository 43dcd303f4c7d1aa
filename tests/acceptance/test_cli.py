"""The installed command, as a user runs it, against a real hub and against the store itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))

TIMEOUT_S = 60

APP = """
import asyncio
from pathlib import Path
from pydantic import BaseModel
from holdfast import Pipeline, State

class Job(BaseModel):
    text: str = ""
    until: str = ""

fine = Pipeline("cli.fine", version="1", event=Job)

@fine.node
async def answer(state: State[Job]) -> dict[str, str]:
    return {"outcome": "answered", "text": state.event.text}

fine.start(answer)

broken = Pipeline("cli.broken", version="1", event=Job)

@broken.node
async def breaks(state: State[Job]) -> None:
    raise ValueError("the [red]cable[/red] is \\x1b[31mloose")

broken.start(breaks)

slow = Pipeline("cli.slow", version="1", event=Job)

@slow.node
async def waits(state: State[Job]) -> None:
    Path(state.event.until + ".began").touch()
    while not Path(state.event.until).exists():
        await asyncio.sleep(0.01)

slow.start(waits)

family = Pipeline("cli.family", version="1", event=Job)
family.start(family.child("asked", fine, input=lambda s: s.event))
"""


class Shell:
    """A folder with an app, and the command run in it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        (folder / "cli_app.py").write_text(APP)
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HOLDFAST_", "COV_")) and name != "DATABASE_URL"
        } | {
            "HOLDFAST_HOME": str(folder / "home"),
            "HOLDFAST_PORT": str(port),
            "HOLDFAST_APPS": "cli_app",
            "HOLDFAST_RUNNERS": "1",
            "COLUMNS": "100",
        }

    def __call__(self, *args, code=0, text=None):
        done = subprocess.run(
            [HOLDFAST, *map(str, args)],
            cwd=self.folder,
            env=self.env,
            input=text,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args, code=0):
        return json.loads(self(*args, "--json", code=code).stdout)

    def one(self, pipeline, **data):
        """Submit one event and wait; its id."""
        line = self.json(
            *("events", "submit", "--type", pipeline, "--data", json.dumps(data), "--wait"),
            code=0 if pipeline in ("cli.fine", "cli.family") else 1,
        )
        return line["event_id"]

    def up(self, *args):
        return subprocess.Popen(
            [HOLDFAST, "up", *args],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def greeting(process):
    """What `up` says until it serves; the address in it is bound to the shell's settings."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            return "".join(lines)
    raise AssertionError(f"the hub ended: {''.join(lines)}")


def wait_for(file):
    give_up = time.monotonic() + TIMEOUT_S
    while not file.exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def stop(process):
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Beside a running hub."""
    shell = Shell(tmp_path_factory.mktemp("hub"), 0)
    shell("db", "upgrade")
    process = shell.up("--apps", "cli_app,cli_missing")
    try:
        shell.greeting = greeting(process)
        url = re.search(r"http://127\.0\.0\.1:(\d+)", shell.greeting)
        shell.env["HOLDFAST_PORT"] = url[1]
        yield shell
    finally:
        ended = stop(process)
    assert ended[:2] == (0, "")


@pytest.fixture
def alone(tmp_path):
    """Where no hub runs; the port is one nobody can listen on without rights."""
    return Shell(tmp_path, 1)


def heavy(code):
    """Which of the heavy modules a program has imported."""
    names = {"asyncio", "fastapi", "httpx", "langchain_core", "langgraph", "orjson", "pydantic"}
    names |= {"rich", "sqlalchemy", "typer", "uvicorn", "holdfast.app", "holdfast.settings"}
    program = f"{code}\nimport sys\nprint(sorted({names!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_version_is_said_before_anything_heavy_is_imported():
    code = "import sys; sys.argv = ['holdfast', '--version']\n"
    said, imported = heavy(f"{code}from holdfast.cli.main import main; main()")

    assert re.fullmatch(r"holdfast \d+\.\d+\.\d+\S*", said)
    assert imported == "[]"


def test_commands_import_what_they_need_when_they_run():
    (imported,) = heavy("import holdfast.cli.commands")

    assert imported == "['asyncio', 'typer']"


def test_up_says_where_what_and_what_next(shell):
    assert re.search(r"Holdfast answers at http://127\.0\.0\.1:\d+\n", shell.greeting)
    assert "  cli.fine v1\n" in shell.greeting
    assert "cli_missing is left out: app cli_missing cannot be imported" in shell.greeting
    assert "Try: curl http://127.0.0.1:" in shell.greeting


def test_a_file_of_events(shell):
    lines = [
        {"type": "cli.fine", "data": {"text": "a"}},
        {"type": "cli.broken", "data": {}},
        {"type": "cli.fine", "data": {"txet": "b"}},
        {"type": "cli.fine", "data": {"text": "c"}},
    ]
    file = shell.folder / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n{nonsense\n")

    done = shell("events", "submit", file, "--wait", code=1)

    assert done.stdout.startswith(f"5/5 {'━' * 20} 0:00:0")
    assert "2 answered · 2 refused · 1 failed" in done.stdout
    assert "the [red]cable" in done.stdout
    assert "\x1b" not in done.stdout
    assert 'line 3: data.txet: expected no such field, got "b"' in done.stderr
    assert "line 5: not JSON" in done.stderr


def test_json_lines_for_machines(shell):
    text = '{"type": "cli.fine", "data": {"text": "a"}}\n{"type": "cli.nowhere", "data": {}}\n'
    done = shell("events", "submit", "-", "--wait", "--json", code=1, text=text)

    by_line = {one["line"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert by_line[1]["status"] == "succeeded"
    assert by_line[1]["output"] == {"outcome": "answered", "text": "a"}
    assert by_line[1]["execution_id"]
    assert by_line[2]["status"] == "refused"
    assert by_line[2]["error"]["code"] == "unknown_pipeline"


def test_one_event_and_its_execution(shell):
    event = shell.one("cli.fine", text="hello")

    shown = shell("executions", "show", event, "--full").stdout
    assert shown.startswith("cli.fine v1  succeeded  ")
    assert "└─ answer  node" in shown
    assert '"text": "hello"' in shown

    view = shell.json("executions", "show", event)
    assert view["event_id"] == event
    assert view["cost_usd"] == "0"
    assert shell.json("executions", "show", view["id"]) == view
    assert shell.json("executions", "export", view["id"])["execution"]["id"] == view["id"]
    assert '"outcome": "answered"' in shell("events", "show", event).stdout


def test_a_child_execution_is_drawn_below_its_step(shell):
    event = shell.one("cli.family", text="hello")
    view = shell.json("executions", "show", event)
    (child,) = view["children"]

    shown = shell("executions", "show", event).stdout.splitlines()
    assert shown[1].startswith("└─ asked")
    assert shown[2].startswith("   └─ cli.fine v1")
    assert child["id"] in shown[2]
    assert any(line.startswith("with children  2 executions") for line in shown)
    listed = shell.json("executions", "list", "--parent", view["id"])["items"]
    assert [one["id"] for one in listed] == [child["id"]]


def test_an_export_lands_in_its_file(shell):
    event = shell.one("cli.fine")
    done = shell("executions", "export", event, "-o", "out.json")

    assert json.loads((shell.folder / "out.json").read_bytes())["event"]["id"] == event
    assert done.stdout == ""


def test_a_failure_is_drawn_and_followed(shell):
    event = shell.one("cli.broken")

    shown = shell("executions", "show", event).stdout
    assert "node error: ValueError: the [red]cable[/red] is ␛[31mloose" in shown
    followed = shell("executions", "tail", event, code=1).stdout
    assert "✗ breaks  failed" in followed
    assert followed.splitlines()[-1].startswith("cli.broken v1  failed")


def test_lists_filter_and_turn_pages(shell):
    for _ in range(3):
        shell.one("cli.fine")
    first = shell.json("events", "list", "--pipeline", "cli.fine", "--limit", "2")["items"]
    rest = shell.json(
        *("events", "list", "--pipeline", "cli.fine", "--limit", "1", "--before", first[-1]["id"])
    )["items"]

    assert rest[0]["id"] < first[1]["id"] < first[0]["id"]
    assert first[0]["id"] in shell("events", "list", "--status", "succeeded").stdout
    assert first[0]["execution_id"] in shell("executions", "list", "--limit", "2").stdout
    assert shell("executions", "list", "--status", "crashed").stdout == ""
    assert "status: expected" in shell("events", "list", "--status", "daed", code=1).stderr


def test_cancel_reaches_what_runs(shell):
    until = shell.folder / "until"
    data = json.dumps({"until": str(until)})
    event = shell.json("events", "submit", "--type", "cli.slow", "--data", data)["event_id"]
    wait_for(Path(f"{until}.began"))

    shell("events", "cancel", event)

    assert "cli.slow v1  cancelled" in shell("executions", "tail", event, code=1).stdout
    again = shell("events", "cancel", event, code=1).stderr
    assert again.startswith(f"error: event {event} is cancelled")
    assert "Traceback" not in again


def test_ctrl_c_tells_what_was_accepted_and_does_not_wait_for_input(shell):
    until = shell.folder / "interrupted"
    process = subprocess.Popen(
        [HOLDFAST, "events", "submit", "-", "--wait"],
        cwd=shell.folder,
        env=shell.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = {"type": "cli.slow", "data": {"until": str(until)}}
    process.stdin.write(json.dumps(line) + "\n")
    process.stdin.flush()
    wait_for(Path(f"{until}.began"))

    with process:
        process.send_signal(signal.SIGINT)
        out, err = process.stdout.read(), process.stderr.read()  # standard input stays open
        until.touch()

    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert "1 queued" in out


def test_a_wait_that_is_too_short_says_where_it_stands(shell):
    until = shell.folder / "later"
    data = json.dumps({"until": str(until)})
    args = ("events", "submit", "--type", "cli.slow", "--data", data, "--wait", "--timeout", "0.2")

    line = shell.json(*args, code=1)

    assert line["status"] == "running"
    until.touch()


def test_pipelines(shell):
    listed = shell("pipelines", "list")
    assert [row.split()[0] for row in listed.stdout.splitlines()] == [
        "pipeline", "cli.broken", "cli.family", "cli.fine", "cli.slow", "holdfast.compaction",
    ]  # fmt: skip
    assert "built in: Puts the oldest" in listed.stdout
    assert "cli_missing is left out" in listed.stderr
    assert "▪ answer  node  → end" in shell("pipelines", "graph", "cli.fine").stdout
    assert shell("pipelines", "graph", "cli.fine", "--mermaid").stdout.startswith("flowchart TD\n")
    assert '"until"' in shell("pipelines", "show", "cli.fine").stdout
    wrong = shell("pipelines", "show", "cli.fien", code=1)
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("error: there is no pipeline 'cli.fien'\n")


def test_the_hub_is_listed(shell):
    (hub,) = shell.json("hubs")["items"]
    assert (hub["kind"], hub["roles"], hub["alive"]) == ("hub", ["api", "worker", "agents"], True)
    drawn = shell("hubs").stdout
    assert str(hub["pid"]) in drawn
    assert "api worker agents" in drawn
    assert "alive" in drawn


def test_doctor_sees_a_healthy_hub(shell):
    done = shell("doctor", "--json")

    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["ok"] is True
    levels = {one["about"]: one["level"] for one in found["checks"]}
    assert levels["hub"] == levels["runner"] == levels["queue"] == "ok"


def test_doctor_says_what_is_wrong_and_what_to_do(alone):
    alone.env["HOLDFAST_APPS"] = "cli_missing"
    alone.env["HOLDFAST_MODELS"] = '{"fast": {"model": "openai:x", "api_key": "env:NOT_THERE"}}'

    done = alone("doctor", code=1)

    assert "✗ database  the database has no tables yet" in done.stdout
    assert "holdfast db upgrade" in done.stdout
    assert "✗ apps      app cli_missing cannot be imported" in done.stdout
    assert "✗ models    " in done.stdout
    assert "NOT_THERE is not set" in done.stdout


def test_a_wrong_setting_is_named(alone):
    alone.env["HOLDFAST_PROT"] = "1"

    done = alone("events", "list", code=1)

    assert "error: unknown setting HOLDFAST_PROT" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_without_a_hub_the_store_itself_does_it(alone):
    event = alone.one("cli.fine", text="alone")

    assert '"text": "alone"' in alone("executions", "show", event, "--full").stdout
    assert "HubUnreachable" not in alone("events", "list").stderr


def test_an_address_that_was_asked_for_must_answer(alone):
    done = alone("events", "list", "--url", "http://127.0.0.1:1", code=1)

    assert done.stderr.startswith("error: no hub answers at http://127.0.0.1:1")
    assert "holdfast up" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("events", "submit"),
        ("events", "submit", "f.jsonl", "--type", "x"),
        ("events", "submit", "f.jsonl", "--key", "k"),
        ("events", "submit", "f.jsonl", "--session", "s"),
        ("events", "submit", "f.jsonl", "--delay", "0"),
        ("events", "list", "--limit", "0"),
        ("executions", "show"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_exit_code_2(alone, args):
    assert alone(*args, code=2).stdout == ""


def test_the_schema_goes_up_and_down(alone):
    assert alone.json("db", "upgrade")["before"] is None
    assert "already" in alone("db", "upgrade").stderr
    assert "--yes" in alone("db", "downgrade", "base", code=2).stderr
    assert alone.json("db", "downgrade", "base", "--yes")["after"] is None
