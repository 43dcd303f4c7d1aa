"""What is kept of prompts with the installed command, over fakes of the providers."""

from __future__ import annotations

import json
import os
from pathlib import Path

from holdfast.testing.providers import FakeAnthropic

from .shell import Shell

APPS = Path(__file__).parents[1] / "apps"


def test_listed_and_summed_up(tmp_path: Path) -> None:
    holdfast = Shell(tmp_path)
    with FakeAnthropic() as server:
        alias = {"model": "anthropic:claude-sonnet-5-5", "base_url": server.url}
        holdfast.env |= {
            "HOLDFAST_APPS": "caching_app",
            "HOLDFAST_MODELS": json.dumps({"fast": alias}),
            "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")]),
            "COLUMNS": "160",
        }
        holdfast("db", "upgrade")
        assert json.loads(holdfast("cache", "list", "--json").stdout)["items"] == []
        events = tmp_path / "mails.jsonl"
        lines = [{"type": "test.parse", "data": {"body": f"mail {at}"}} for at in range(4)]
        lines += [{"type": "test.small", "data": {"body": f"mail {at}"}} for at in range(3)]
        events.write_text("\n".join(map(json.dumps, lines)))
        with holdfast.up(HOLDFAST_RUNNER_SLOTS="1"):
            holdfast("events", "submit", str(events), "--wait")
            listed = holdfast("cache", "list").stdout
        kept = next(line for line in listed.splitlines() if "test.parse:parse" in line)
        assert "ready" in kept
        assert "1,500" in kept
        small = next(line for line in listed.splitlines() if "test.small:parse" in line)
        assert "not cacheable below 1,024" in small
        summed = holdfast("cache", "savings").stdout
        assert "test.parse:parse" in summed
        total = json.loads(holdfast("cache", "savings", "--json").stdout)["total"]
        assert total["hits"] == 2
        assert total["tokens_read"] == sum(r.tokens_cached for r in server.requests) == 3000
        assert total["tokens_written"] == 1500
        none = holdfast("cache", "savings", "--since", "2999-01-01", "--json").stdout
        assert json.loads(none)["items"] == []
