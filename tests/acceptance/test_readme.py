"""What the README shows is what a reader gets."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from holdfast.testing.providers import FakeOpenAI

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TALK = README.partition("$ holdfast agents chat helpdesk\n")[2].partition("```")[0]
CURL_BODY = re.search(r"-d '(\{.*\})'", README)
VERDICT = orjson.dumps({"intent": "invoice", "spam": 0.1}).decode()


def environ(home: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOLDFAST_HOME": str(home), "HOLDFAST_PORT": "0", "COLUMNS": "100", **more}


@pytest.fixture
def provider() -> Iterator[FakeOpenAI]:
    with FakeOpenAI([VERDICT, VERDICT]) as server:
        yield server


@pytest.fixture
def mail(tmp_path: Path, provider: FakeOpenAI) -> dict[str, str]:
    """The environment in which the README's pipeline is the app, and its model is a fake."""
    (tmp_path / "mail.py").write_text(PYTHON[0])
    return environ(
        tmp_path / "home",
        HOLDFAST_APPS="mail",
        OPENAI_API_KEY="sk-of-nobody",
        OPENAI_BASE_URL=provider.url,
    )


def holdfast(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "holdfast"), *arguments]


def test_the_pipeline_and_the_request_of_the_readme(
    mail: dict[str, str], tmp_path: Path, provider: FakeOpenAI
) -> None:
    assert CURL_BODY is not None
    subprocess.run(holdfast("db", "upgrade"), env=mail, cwd=tmp_path, check=True)
    hub = subprocess.Popen(
        holdfast("up"), env=mail, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        assert hub.stderr is not None
        url = next(
            found.group() for line in hub.stderr if (found := re.search(r"http://\S+:\d+", line))
        )
        answer = httpx.post(
            f"{url}/api/v1/events?wait=20",
            headers={"content-type": "application/json"},
            content=CURL_BODY.group(1),
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"]["output"] == {"outcome": "filed as invoice"}
        assert "Invoice 17" in provider.requests[0].body["messages"][1]["content"]
        hub.send_signal(signal.SIGINT)
        assert hub.wait(20) == 0
    finally:
        hub.kill()
        hub.communicate()


def test_the_talk_of_the_readme(tmp_path: Path) -> None:
    said = re.findall(r"^you › (.*)$", TALK, re.MULTILINE)
    answers = re.findall(r"^helpdesk › (.*)$", TALK, re.MULTILINE)
    assert len(said) == len(answers) == 2
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    env = environ(tmp_path / "home", HOLDFAST_AGENTS="examples/assistant/helpdesk.yaml")
    subprocess.run(holdfast("db", "upgrade"), env=env, cwd=tmp_path, check=True)
    for question, answer in zip(said, answers, strict=True):  # the hub starts anew for each
        hub = subprocess.Popen(
            holdfast("up"), env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        try:
            assert hub.stderr is not None
            url = next(
                found.group()
                for line in hub.stderr
                if (found := re.search(r"http://\S+:\d+", line))
            )
            talk = subprocess.run(
                holdfast("agents", "chat", "helpdesk", "--url", url),
                env=env,
                cwd=tmp_path,
                input=f"{question}\n",
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert talk.stdout == f"{answer}\n", talk.stderr
            assert "rules, not a language model" in talk.stderr
            hub.send_signal(signal.SIGINT)
            assert hub.wait(20) == 0
        finally:
            hub.kill()
            hub.communicate()


def test_make_run_brings_the_help_desk() -> None:
    bare = {name: os.environ[name] for name in ("PATH",)}
    shown = subprocess.run(
        ["make", "-pn", "run"], cwd=ROOT, env=bare, capture_output=True, text=True, check=False
    ).stdout
    assert "HOLDFAST_AGENTS = examples/assistant/helpdesk.yaml" in shown
    own = subprocess.run(
        ["make", "-pn", "run"],
        cwd=ROOT,
        env={**bare, "HOLDFAST_APPS": "mine"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "HOLDFAST_AGENTS =" not in own


def test_the_clients_of_the_readme_in_process(mail: dict[str, str], tmp_path: Path) -> None:
    in_process = PYTHON[1].split("\n\n")[-1]
    script = (
        "import asyncio, holdfast\nasync def main():\n"
        + "\n".join(f"    {line}" for line in in_process.splitlines())
        + "\n    print(event['status'], event['result']['output'])\nasyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=mail,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "succeeded {'outcome': 'filed as invoice'}" in done.stdout, done.stderr
