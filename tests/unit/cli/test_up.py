"""What `holdfast up` says when it serves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from holdfast.cli.up import EXAMPLE, first_command, greet
from holdfast.errors import AppError
from holdfast.pipelines.registry import AppFailure, Registry
from holdfast.settings import load

URL = "http://127.0.0.1:8001"


@pytest.mark.parametrize("needs_url", [True, False])
def test_the_first_command_is_the_example_where_it_is_there(monkeypatch, tmp_path, needs_url):
    monkeypatch.chdir(tmp_path)
    EXAMPLE.parent.mkdir(parents=True)
    EXAMPLE.touch()
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")

    told = first_command(URL, {"support.triage"}, needs_url=needs_url)

    assert told.startswith("holdfast events submit examples/support_triage/emails.jsonl --wait")
    assert told.endswith(f" --url {URL}") is needs_url
    assert first_command(URL, {"other"}, needs_url=False) == f"curl {URL}/api/v1/pipelines"
    guarded = first_command(URL, set(), needs_url=False, guarded=True)
    assert guarded == f"curl -H 'Authorization: Bearer hf_…' {URL}/api/v1/pipelines"


def test_a_command_that_is_not_on_the_path_is_told_with_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    EXAMPLE.parent.mkdir(parents=True)
    EXAMPLE.touch()
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv/bin/python"))

    told = first_command(URL, {"support.triage"}, needs_url=False)

    assert told.startswith(".venv/bin/holdfast events submit ")


def test_a_broken_app_is_named_with_its_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_PORT", "8001")
    failure = AppFailure(app="mine", error=AppError("app mine: no\x1b", hint="look"))
    parts = SimpleNamespace(
        kit=SimpleNamespace(registry=Registry([], [failure])),
        keyring=SimpleNamespace(guarded=False),
        settings=load(environ={}),
        agents=(),
    )

    greet(parts, URL)

    out, err = capsys.readouterr()
    assert out == ""
    assert "mine is left out: app mine: no␛ (look)" in err
    assert "no pipeline is loaded" in err


@pytest.mark.parametrize(
    ("setting", "said", "unsaid"),
    [
        ({"HOLDFAST_ROLES": "worker"}, "takes no requests", "Try: "),
        (
            {"HOLDFAST_DISPATCH": "celery", "HOLDFAST_CELERY_BROKER_URL": "amqp://x"},
            "celery -A holdfast.celery_app worker",
            "takes no requests",
        ),
    ],
)
def test_what_a_hub_leaves_to_others_is_told(monkeypatch, capsys, setting, said, unsaid):
    monkeypatch.setenv("HOLDFAST_PORT", "8001")
    parts = SimpleNamespace(
        kit=SimpleNamespace(registry=Registry([])),
        keyring=SimpleNamespace(guarded=False),
        settings=load(environ={"DATABASE_URL": "postgresql://a/b", **setting}),
        agents=(),
    )

    greet(parts, URL)

    _, err = capsys.readouterr()
    assert said in err
    assert unsaid not in err


def test_an_agent_of_the_files_is_there_to_be_talked_with(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_PORT", "8001")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    parts = SimpleNamespace(
        kit=SimpleNamespace(registry=Registry([])),
        keyring=SimpleNamespace(guarded=False),
        settings=load(environ={}),
        agents=["helpdesk"],
    )

    greet(parts, URL)

    err = capsys.readouterr().err
    assert "And: holdfast agents chat helpdesk\n" in err
    assert "no pipeline is loaded" not in err
