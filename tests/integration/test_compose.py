"""What the compose file says is what runs: its commands and settings, on servers of the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml

from holdfast.bus.celery_broker import make_celery
from holdfast.testing.postgres import PostgresForTests

from .several_hubs import Process

ROOT = Path(__file__).parents[2]
OURS = ("migrate", "api", "worker", "celery")
GIVEN = {"POSTGRES_PASSWORD": "secret", "HOLDFAST_DISPATCH": "direct"}

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<rest>[^}]*))?\}")


def filled(text: str, given: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found["name"]
        if name in given:
            return given[name]
        assert found["kind"] == ":-", f"{name} has no default"
        return found["rest"]

    return _VARIABLE.sub(value, text)


class Compose:
    """The file, with servers of the tests behind its addresses."""

    def __init__(self, folder: Path, replaced: dict[str, str], **given: str) -> None:
        text = filled((ROOT / "deploy/compose.yaml").read_text(), GIVEN | given)
        self.services: dict[str, Any] = yaml.safe_load(text)["services"]
        self._folder = folder
        self._replaced = replaced
        self._processes: list[Process] = []

    def environ(self, service: str) -> dict[str, str]:
        environ = dict(self.services[service]["environment"])
        for name, url in self._replaced.items():
            assert name in environ, f"{service} lacks {name}"
            environ[name] = url
        own = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOLDFAST_HOME": str(self._folder / "home"),
            "HOLDFAST_PORT": "0",
            "HOLDFAST_RUNNERS": "1",
            "HOLDFAST_CELERY_QUEUE": f"compose-{self._folder.name}",
        }
        return environ | own

    def run(self, service: str, command: list[str] | None = None) -> str:
        """A command that ends; its output."""
        done = subprocess.run(
            command or self.services[service]["command"],
            env=self.environ(service),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, service: str) -> Process:
        """A service that stays."""
        command = self.services[service]["command"]
        self._processes.append(Process(command, self.environ(service), self._folder))
        return self._processes[-1]

    def end(self) -> None:
        for process in self._processes:
            process.end()
        broker = self._replaced.get("HOLDFAST_CELERY_BROKER_URL")
        if broker is not None:
            app: Any = make_celery(broker, "")
            with app.connection_for_write() as connection:
                connection.default_channel.queue_delete(f"compose-{self._folder.name}")
            app.close()


@pytest.fixture
def database(postgres: PostgresForTests) -> Iterator[str]:
    url = postgres.empty()
    yield url
    postgres.drop(url)


@pytest.mark.parametrize("dispatch", ["direct", "celery"])
async def test_its_services_answer_together(
    dispatch: str,
    database: str,
    redis_url: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    replaced = {
        "HOLDFAST_DATABASE_URL": database,
        "HOLDFAST_BUS_URL": redis_url,
    }
    if dispatch == "celery":
        replaced["HOLDFAST_CELERY_BROKER_URL"] = request.getfixturevalue("amqp_url")
    compose = Compose(tmp_path, replaced, HOLDFAST_DISPATCH=dispatch)
    compose.run("migrate")
    key = compose.run("api", ["holdfast", "keys", "create", "first"]).strip()
    try:
        api = compose.start("api")
        compose.start("worker" if dispatch == "direct" else "celery")
        await api.says("answers at ")
        # It listens on every address and is asked by the name that Caddy passes on.
        port = api.log.split("answers at ")[1].split()[0].rsplit(":", 1)[1]
        headers = {"host": "localhost", "authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=90
        ) as http:
            pipelines = (await http.get("/api/v1/pipelines")).json()["items"]
            own = [one["name"] for one in pipelines if not one["built_in"]]
            assert own == ["support.triage"]
            first = (ROOT / "examples/support_triage/emails.jsonl").read_text().splitlines()[0]
            answer = await http.post("/api/v1/events?wait=60", json=orjson.loads(first))
            assert answer.status_code == 200, answer.text
            assert answer.json()["status"] == "succeeded"
    finally:
        compose.end()


def test_every_service_of_ours_is_the_same_but_for_its_role(tmp_path: Path) -> None:
    compose = Compose(tmp_path, {})
    for name in OURS:
        service = compose.services[name]
        assert service["image"] == "holdfast"
        assert service["volumes"] == ["home:/var/lib/holdfast"]
        assert "HOLDFAST_PORT" not in service["environment"]
    text = (ROOT / "deploy/Dockerfile").read_text()
    assert "HOLDFAST_HOME=/var/lib/holdfast" in text
    assert "USER holdfast" in text
