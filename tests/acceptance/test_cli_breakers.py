"""Breakers with the installed command, beside no hub: in the store itself."""

from __future__ import annotations

import json
from pathlib import Path

from .shell import Shell


def test_listed_opened_and_closed(tmp_path: Path) -> None:
    holdfast = Shell(tmp_path)
    holdfast("db", "upgrade")
    assert json.loads(holdfast("breakers", "list", "--json").stdout) == {"items": []}
    told = holdfast("breakers", "open", "openai@host/model", "--for", "60", "--reason", "moving")
    assert "is open" in told.stderr
    listed = holdfast("breakers", "list").stdout
    assert "openai@host/model" in listed
    assert "moving" in listed
    holdfast("breakers", "close", "openai@host/model")
    (only,) = json.loads(holdfast("breakers", "list", "--json").stdout)["items"]
    assert (only["status"], only["by_hand"]) == ("closed", False)
    assert "no breaker" in holdfast("breakers", "close", "crm", code=1).stderr
