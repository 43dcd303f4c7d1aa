"""Keys with the installed command: the first one in the store, the rest through the hub."""

from __future__ import annotations

import json
import re

import pytest

from .shell import Shell

FORM = re.compile(r"hf_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}\n")


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


def test_the_life_of_keys(shell):
    everywhere = {"HOLDFAST_HOST": "0.0.0.0"}
    shell("db", "upgrade")
    refused = shell("up", code=1, **everywhere).stderr
    assert "HOLDFAST_HOST: 0.0.0.0" in refused
    assert "holdfast keys create NAME" in refused

    made = shell("keys", "create", "root", "--scope", "admin", "--scope", "read")
    assert FORM.fullmatch(made.stdout)
    assert made.stdout.strip() not in made.stderr
    key = made.stdout.strip()
    (shell.folder / "root.key").write_text(made.stdout)

    with shell.up(**everywhere):
        shell("doctor", "--json", HOLDFAST_KEY=key, **everywhere)
        told = shell("pipelines", "list", code=1).stderr
        assert "wants an API key" in told
        assert "keys create" in told
        shell("pipelines", "list", HOLDFAST_KEY=key)
        shell("--key-file", "root.key", "pipelines", "list")
        told = shell("--key-file", "nothing.key", "pipelines", "list", code=1).stderr
        assert "--key-file: nothing.key cannot be read" in told
        told = shell("events", "submit", "--type", "x", "--data", "{}", code=1, HOLDFAST_KEY=key)
        assert "needs the scope write" in told.stderr

        told = shell("keys", "list", code=1).stderr
        assert "HOLDFAST_KEY or --key-file" in told
        ci = json.loads(
            shell(
                *("keys", "create", "ci", "--owner", "team-a", "--expires", "30d", "--json"),
                HOLDFAST_KEY=key,
            ).stdout
        )
        assert (ci["owner"], ci["scopes"]) == ("team-a", ["read", "write"])
        listed = shell("keys", "list", HOLDFAST_KEY=key).stdout
        assert ci["prefix"] in listed
        assert "team-a" in listed
        shell("pipelines", "list", HOLDFAST_KEY=ci["key"])
        shell("keys", "revoke", ci["prefix"], HOLDFAST_KEY=key)
        told = shell("pipelines", "list", code=1, HOLDFAST_KEY=ci["key"]).stderr
        assert "is not accepted" in told

    views = json.loads(shell("keys", "list", "--json").stdout)["items"]
    assert [(one["name"], bool(one["revoked_at"])) for one in views] == [
        ("ci", True),
        ("root", False),
    ]
    assert views[1]["last_used_at"] is not None


def test_the_first_key_needs_no_migrated_store_and_keeps_no_secret(shell):
    key = shell("keys", "create", "first").stdout.strip()
    kept = b"".join(file.read_bytes() for file in (shell.folder / "home").glob("holdfast.db*"))
    assert key[3:11].encode() in kept
    assert key[12:].encode() not in kept


@pytest.mark.parametrize("wrong", ["soon", "2027-01-31T12:00:00", "99x", "2020-01-01T00:00:00Z"])
def test_a_wrong_end_makes_no_key(shell, wrong):
    told = shell("keys", "create", "x", "--expires", wrong, code=1 if "2020" in wrong else 2)
    assert wrong in told.stderr.replace(".000000Z", "Z")
    assert told.stdout == ""
