"""Agents with the installed command and a real hub: applied, talked with, stopped, restarted."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.postgres import PostgresForTests

ROOT = Path(__file__).parents[2]
HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
HELPDESK = "examples/assistant/helpdesk.yaml"
PAGE = (ROOT / "docs" / "agents.md").read_text()

TIMEOUT_S = 120


class Shell:
    """A folder beside the examples, and the command run in it."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = folder
        (folder / "examples").symlink_to(ROOT / "examples")
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        hidden = ("HOLDFAST_", "COV_", "DATABASE_URL", "OPENAI_")
        kept = {name: one for name, one in os.environ.items() if not name.startswith(hidden)}
        self.env = kept | {
            "HOLDFAST_HOME": str(folder / "home"),
            "HOLDFAST_PORT": str(port),
            "HOLDFAST_RUNNERS": "1",
            "HOLDFAST_AGENTS": HELPDESK,
            "COLUMNS": "120",
            **more,
        }

    def __call__(
        self, *args: str, code: int = 0, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [HOLDFAST, *args],
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

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "--json").stdout)

    def chat(self, *lines: str, options: tuple[str, ...] = (), code: int = 0) -> list[str]:
        """Say lines to the help desk; what it says."""
        text = "".join(f"{line}\n" for line in lines)
        return self(
            "agents", "chat", "helpdesk", *options, text=text, code=code
        ).stdout.splitlines()

    def apply(self, text: str, code: int = 0) -> str:
        (self.folder / "a.yaml").write_text(text)
        return self("agents", "apply", "a.yaml", code=code).stderr

    @contextmanager
    def hub(self) -> Iterator[str]:
        """A hub; what it says until it serves."""
        process = subprocess.Popen(
            [HOLDFAST, "up"], cwd=self.folder, env=self.env, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        told: list[str] = []
        try:
            for line in process.stderr:
                told.append(line)
                if line.startswith("Ctrl-C"):
                    break
            else:
                raise AssertionError("".join(told))
            yield "".join(told)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Beside a running hub."""
    made = Shell(tmp_path_factory.mktemp("hub"))
    made("db", "upgrade")
    with made.hub() as made.greeting:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Shell:
    """A place of its own, where hubs come and go."""
    made = Shell(tmp_path)
    made("db", "upgrade")
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def everywhere(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresForTests
) -> Iterator[Shell]:
    """The same on each database."""
    if request.param == "sqlite":
        made = Shell(tmp_path)
        made("db", "upgrade")
        yield made
        return
    url = postgres.migrated()
    yield Shell(tmp_path, HOLDFAST_DATABASE_URL=url)
    postgres.drop(url)


SHIPPED = "Order 1042 (Copper kettle, 1.7 l) is shipped; arrives Thursday."


def test_the_hub_makes_the_agents_of_its_files(shell: Shell) -> None:
    assert "  helpdesk  an agent\n" in shell.greeting
    assert "And: holdfast agents chat helpdesk" in re.sub(
        r"\S*/holdfast", "holdfast", shell.greeting
    )
    listed = shell("agents", "list").stdout
    assert re.search(r"^helpdesk +simple +standard +\w+ +1 +Looks up orders", listed, re.MULTILINE)


def test_a_talk_remembers_what_was_said(shell: Shell) -> None:
    first = shell("agents", "chat", "helpdesk", "--new", text="I am Ann. Where is order 1042?\n")
    assert first.stdout == f"{SHIPPED}\n"
    assert "rules, not a language model" in first.stderr

    said = shell.chat("When does it arrive?", "What is my name?")
    assert said == [SHIPPED, "You are Ann."]
    assert shell.chat("What is my name?", options=("--new",)) == ["You have not told me your name."]


def test_a_talk_for_machines(shell: Shell) -> None:
    done = shell("agents", "chat", "helpdesk", "--new", "--json", text="order 1043\n\nand 1044\n")
    one, two = map(json.loads, done.stdout.splitlines())
    assert "Order 1043" in one["response"]
    assert "Order 1044" in two["response"]
    assert one["session_id"] == two["session_id"]
    assert shell.json("executions", "show", one["execution_id"])["event_id"] == one["event_id"]


def test_what_was_said_can_be_read_renamed_archived_deleted(shell: Shell) -> None:
    said = shell("agents", "chat", "helpdesk", "--new", "--json", text="Where is order 1043?\n")
    session = json.loads(said.stdout)["session_id"]

    assert session in shell("sessions", "list", "helpdesk").stdout
    shown = shell("sessions", "show", session).stdout
    assert "user  " in shown
    assert "  Order 1043 (Teapot with strainer) is delivered" in shown
    assert "called Teapot." in shell("sessions", "rename", session, "Teapot").stderr
    shell("sessions", "archive", session)
    assert session not in shell("sessions", "list").stdout
    assert "Teapot" in shell("sessions", "list", "--archived").stdout
    refused = shell("agents", "chat", "helpdesk", "--session", session, text="hello\n", code=1)
    assert "archive" in refused.stderr
    shell("sessions", "archive", session, "--undo")
    shell("agents", "chat", "helpdesk", "--session", session, text="hello\n")
    shell("sessions", "delete", session, "--yes")
    assert "error: " in shell("sessions", "show", session, code=1).stderr
    # The last one is gone: the next talk is a new one, without a word about it.
    assert shell.chat("What is my name?") == ["You have not told me your name."]


def test_a_talk_with_nobody_and_a_foreign_session_are_refused(shell: Shell) -> None:
    assert "there is no agent nobody" in shell("agents", "chat", "nobody", text="", code=1).stderr
    unknown = "0199c0de-0000-7000-8000-000000000001"
    done = shell("agents", "chat", "helpdesk", "--session", unknown, text="hi\n", code=1)
    assert "error: " in done.stderr
    both = ("--session", unknown, "--new")
    assert "not both" in shell("agents", "chat", "helpdesk", *both, text="", code=1).stderr


WRONG = """\
name: wrong
simple:
  settings:
    model: standard
    system_prompt: Hello.
{line}
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("    temperature: 3", r"a\.yaml:6:\d+: simple\.settings\.temperature: "),
        ("    modle: fast", r"a\.yaml:6:5: simple\.settings\.modle: .*no such field"),
        ("    limits: {turn_s: -1}", r"a\.yaml:6:\d+: simple\.settings\.limits\.turn_s: "),
        (
            "    tools: [{type: function, path: 'examples.assistant.tools:sing'}]",
            r"a\.yaml:6:\d+: .*sing",
        ),
        ("    critique: {model: nobody}", r"a\.yaml:6:\d+: .*nobody"),
        ("    secrets: {SHOP_KEY: hunter2}", r"a\.yaml:6:\d+: simple\.settings\.secrets\.SHOP_KEY"),
        ("  other: 1", r"a\.yaml:6:3: "),
        ("wrong", r"a\.yaml:\d+:\d+: this is no YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(shell: Shell, line: str, told: str) -> None:
    said = shell.apply(WRONG.format(line=line), code=1)
    assert re.search(told, said), said
    assert "hunter2" not in said
    assert "wrong" not in shell("agents", "list").stdout


def test_a_graph_that_is_not_there_is_refused_with_its_line(shell: Shell) -> None:
    text = "name: wrong\ngraph:\n  settings:\n    graph: examples.nowhere:graph\n"
    assert re.search(r"a\.yaml:4:\d+: .*examples\.nowhere", shell.apply(text, code=1))


def test_a_file_is_applied_as_a_whole_or_not_at_all(shell: Shell) -> None:
    good = "name: fine\nsimple: {settings: {model: standard}}\n---\n"
    shell.apply(good + WRONG.format(line="    temperature: 3"), code=1)
    assert "fine" not in shell("agents", "list").stdout


def test_versions_are_made_compared_and_brought_back(shell: Shell) -> None:
    text = "name: clerk\nsimple:\n  settings: {model: standard, system_prompt: Be brief.}\n"
    assert "clerk: made, version 1" in shell.apply(text)
    assert "clerk: no change, version 1" in shell.apply(f"# a comment\n{text}")
    assert "clerk: changed, version 2" in shell.apply(text.replace("brief", "polite"))

    differs = shell("agents", "diff", "clerk", "1", "2", code=1).stdout
    assert "-" in differs
    assert "Be brief." in differs
    assert "Be polite." in differs
    assert "clerk: version 3" in shell("agents", "rollback", "clerk").stderr
    listed = shell("agents", "versions", "clerk").stdout
    assert "brings back 1" in listed
    assert "Be brief." in shell("agents", "show", "clerk").stdout
    (shell.folder / "now.yaml").write_text(shell("agents", "show", "clerk", "--yaml").stdout)
    assert "no change" in shell("agents", "apply", "now.yaml").stderr
    shell("agents", "delete", "clerk", "--yes")
    assert "clerk" not in shell("agents", "list").stdout


def test_what_is_said_to_a_stopped_agent_is_answered_when_it_is_started(shell: Shell) -> None:
    shell.chat("hello", options=("--new",))
    assert "it is to stay down, and messages wait" in shell("agents", "stop", "helpdesk").stderr
    done = shell("agents", "chat", "helpdesk", text="Where is order 1044?\n", code=1)
    assert "helpdesk is stopped; your message waits" in done.stderr
    assert done.stdout == ""

    shell("agents", "start", "helpdesk")

    assert shell.chat("What is my name?") == ["You have not told me your name."]
    session = shell.json("sessions", "list", "helpdesk")["items"][0]
    said = [one["content"] for one in shell.json("sessions", "show", session["id"])["newest"]]
    assert said[2:] == [
        "Where is order 1044?",
        "Order 1044 (Milk frother) is waiting for the maker; arrives in two weeks.",
        "What is my name?",
        "You have not told me your name.",
    ]


def test_the_process_is_told_and_started_anew(shell: Shell) -> None:
    shell.chat("hello", options=("--new",))
    shown = shell("agents", "status", "helpdesk").stdout
    assert re.search(r"^  state +running$", shown, re.MULTILINE)
    before = shell.json("agents", "status", "helpdesk")
    assert re.search(rf"^  process +{before['pid']} on ", shown, re.MULTILINE)

    shell("agents", "restart", "helpdesk")
    shell.chat("hello")
    assert shell.json("agents", "status", "helpdesk")["pid"] != before["pid"]


LOUD = """
def answer(request):
    print("heard", request.user, flush=True)
    return "Yes."
"""


def test_what_a_process_writes_can_be_read_and_followed(shell: Shell) -> None:
    (shell.folder / "loud_rules.py").write_text(LOUD)
    shell.apply("name: loud\nsimple: {settings: {model: standard, rules: 'loud_rules:answer'}}\n")
    shell("agents", "chat", "loud", text="one\ntwo\n")
    assert "heard two" in shell("agents", "logs", "loud", "--tail", "1").stdout
    following = subprocess.Popen(
        [HOLDFAST, "agents", "logs", "loud", "-f"],
        cwd=shell.folder,
        env=shell.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    try:
        next(line for line in following.stdout if "heard two" in line)
        shell("agents", "chat", "loud", text="three\n")
        seen = next(line for line in following.stdout if "heard" in line)
        assert seen == "heard three\n"
    finally:
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=TIMEOUT_S)
    assert following.returncode == 130


def test_everything_is_remembered_when_all_was_stopped(everywhere: Shell) -> None:
    with everywhere.hub():
        assert everywhere.chat("I am Ann. Where is order 1042?") == [SHIPPED]
        agent = everywhere.json("agents", "show", "helpdesk")
    with everywhere.hub():
        assert everywhere.chat("When does it arrive?", "Who am I?") == [SHIPPED, "You are Ann."]
        assert everywhere.json("agents", "show", "helpdesk")["version"] == agent["version"] == 1


def test_a_file_speaks_again_only_when_it_has_changed(own: Shell) -> None:
    file = own.folder / "clerk.yaml"
    file.write_text("name: clerk\nsimple: {settings: {model: standard, system_prompt: One.}}\n")
    own.env["HOLDFAST_AGENTS"] = "clerk.yaml"
    with own.hub():
        own.apply(file.read_text().replace("One", "Two"))
    with own.hub():  # what a person said since stays
        assert "Two." in own("agents", "show", "clerk").stdout
    file.write_text(file.read_text().replace("One", "Three"))
    with own.hub():
        assert "Three." in own("agents", "show", "clerk").stdout
        assert own.json("agents", "show", "clerk")["version"] == 3
    file.write_text("name: clerk\nsimple: {settings: {modle: standard}}\n")
    with own.hub() as greeting:
        assert re.search(r"clerk\.yaml is left out: .*clerk\.yaml:2:\d+: .*modle", greeting)
        assert "Three." in own("agents", "show", "clerk").stdout


def test_where_no_hub_runs_the_store_is_asked(own: Shell) -> None:
    own.env["HOLDFAST_AGENTS"] = ""
    assert "There are no agents." in own("agents", "list").stderr
    assert "helpdesk: made, version 1" in own("agents", "apply", HELPDESK).stderr
    assert "helpdesk" in own("agents", "list").stdout
    assert "There are no sessions." in own("sessions", "list").stderr
    assert own.chat("Where is order 1042?") == [SHIPPED]
    assert "Where is order 1042?" in own("sessions", "list").stdout


def test_a_key_opens_the_talk_too(own: Shell) -> None:
    key = own.json("keys", "create", "all", "--scope", "read", "--scope", "write")["key"]
    (own.folder / "key").write_text(key)
    with own.hub():
        assert "key" in own("agents", "chat", "helpdesk", text="hello\n", code=1).stderr
        told = own("--key-file", "key", "agents", "chat", "helpdesk", text="hello\n").stdout
        assert told.startswith("Hello!")


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, shell: Shell, *args: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(shell.folder)
            env = {**shell.env, "TERM": "xterm", "COLUMNS": "60"}
            os.execve(HOLDFAST, [HOLDFAST, *args], env)
        self.seen = ""
        self.decoder = getincrementaldecoder("utf-8")()

    def until(self, text: str) -> str:
        """What is shown up to a text, without its colours."""
        end = time.monotonic() + TIMEOUT_S
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, self.seen
            if select.select([self.fd], [], [], left)[0]:
                self.seen += self.decoder.decode(os.read(self.fd, 65536))
        shown, _, self.seen = self.seen.partition(text)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def ended(self) -> int:
        """Its exit code."""
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:  # Linux tells so that the other side is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("bye", ["\x04", "\x03"])
def test_a_talk_at_a_terminal(shell: Shell, bye: str) -> None:
    talk = Terminal(shell, "agents", "chat", "helpdesk", "--new")
    talk.until("you › ")
    talk.type("Where is order 1042?\n")
    shown = talk.until("you › ")
    assert "\n  · look_up_order\n" in shown
    assert (
        "\nhelpdesk › Order 1042 (Copper kettle, 1.7 l) is shipped;\narrives Thursday.\n" in shown
    )
    assert "rules, not a language model\n" in shown
    talk.type(bye)
    assert talk.ended() == 0


SLOW = """
import time
from pathlib import Path

from holdfast.llm.scripted import ScriptedAnswer


def answer(request):
    return ScriptedAnswer(text="one two three four", latency_s=600)
"""


def test_ctrl_c_stops_an_answer_and_the_talk_goes_on(shell: Shell) -> None:
    (shell.folder / "slow_rules.py").write_text(SLOW)
    shell.apply("name: slow\nsimple: {settings: {model: standard, rules: 'slow_rules:answer'}}\n")
    talk = Terminal(shell, "agents", "chat", "slow")
    talk.until("you › ")
    talk.type("hello\n")
    session = waits_for_turn(shell)
    talk.type("\x03")
    talk.until("stopped")
    talk.until("you › ")
    talk.type("\x04")
    assert talk.ended() == 0
    (turn,) = shell.json("executions", "list", "--limit", "1")["items"]
    assert (turn["session_id"], turn["status"]) == (session, "cancelled")


def waits_for_turn(shell: Shell) -> str:
    """The session of the slow agent's turn, once it runs."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        found = shell.json("executions", "list", "--status", "running")["items"]
        if found:
            return str(found[0]["session_id"])
    raise AssertionError("no turn began")


def test_the_commands_of_the_page(own: Shell) -> None:
    section = PAGE.partition("## From the command line")[2].partition("\n## ")[0]
    commands = [
        line.partition("  #")[0].strip()
        for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
        if line.strip()
    ]
    assert len(commands) > 10
    own.env["HOLDFAST_AGENTS"] = ""
    own.env["PATH"] = f"{Path(HOLDFAST).parent}:{own.env['PATH']}"
    with own.hub():
        for command in commands:
            if "$SESSION" in command and "SESSION" not in own.env:
                own.env["SESSION"] = own.json("sessions", "list")["items"][0]["id"]
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=own.folder,
                env=own.env,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            differs = 1 if " diff " in command else 0
            assert done.returncode == differs, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(("target", "verb"), [("run_agent", "start"), ("stop_agent", "stop")])
def test_make_starts_and_stops_agents(target: str, verb: str) -> None:
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.run", target, "AGENT_ID=helpdesk"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'holdfast agents {verb} "helpdesk"' in done.stdout
