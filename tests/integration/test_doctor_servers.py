"""What the doctor says of the servers that join hubs."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.bus import celery_broker
from holdfast.bus import redis as redis_bus
from holdfast.cli import checks

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "CALL_S", 0.5)
    monkeypatch.setattr(celery_broker, "CALL_S", 0.5)


async def found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bus: str, broker: str
) -> dict[str, checks.Finding]:
    monkeypatch.chdir(tmp_path)
    settings = {
        "HOLDFAST_DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "HOLDFAST_HOME": str(tmp_path),
        "HOLDFAST_PORT": "1",
        "HOLDFAST_DISPATCH": "celery",
        "HOLDFAST_BUS_URL": bus,
        "HOLDFAST_CELERY_BROKER_URL": broker,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    seen: dict[str, checks.Finding] = {}
    async for finding in checks.examine(None):
        seen[finding.about] = finding
        if finding.about == "celery":
            break
    return seen


async def test_servers_that_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str
) -> None:
    monkeypatch.setattr(redis_bus, "CALL_S", 5.0)
    seen = await found(monkeypatch, tmp_path, redis_url, redis_url)
    assert (seen["bus"].level, seen["celery"].level) == ("ok", "ok")


async def test_servers_that_do_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = await found(monkeypatch, tmp_path, NOBODY, NOBODY)
    assert seen["bus"].level == "note", "hubs work without it"
    assert "HOLDFAST_BUS_URL" in seen["bus"].hint
    assert seen["celery"].level == "wrong", "nothing runs without it"
    assert "HOLDFAST_CELERY_BROKER_URL" in seen["celery"].hint
    rabbit = await found(monkeypatch, tmp_path, NOBODY, "amqp://guest:guest@127.0.0.1:1//")
    assert rabbit["celery"].level == "wrong"
