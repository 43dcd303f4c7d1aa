"""Which way a command goes: the hub asked for, the hub of the settings, or the store."""

from __future__ import annotations

import http.server
import threading
from contextlib import asynccontextmanager

import pytest
import typer

from holdfast import telemetry
from holdfast.cli.door import open_client, run
from holdfast.client import local as wiring
from holdfast.errors import HubUnreachable


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"status": "ok", "version": "test"}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody(hub):
    """A port nobody listens on: it was taken and given back."""
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        return server.server_port


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Notes how the store was opened instead of opening it."""
    calls = []

    @asynccontextmanager
    async def connect(settings=None, **options):
        calls.append((settings.port, options))
        yield "the store"

    monkeypatch.setattr(wiring, "connect", connect)
    monkeypatch.setattr(telemetry, "configure_logging", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    for name in ("HOLDFAST_APPS", "HOLDFAST_HOME", "DATABASE_URL", "HOLDFAST_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return calls


async def test_the_hub_of_the_settings_comes_first(hub, opened, monkeypatch):
    monkeypatch.setenv("HOLDFAST_PORT", str(hub))

    async with open_client(None) as client:
        assert client.url == f"http://127.0.0.1:{hub}"
    assert opened == []


@pytest.mark.parametrize("read_only", [True, False])
async def test_without_a_hub_the_store_is_opened(nobody, opened, monkeypatch, read_only):
    monkeypatch.setenv("HOLDFAST_PORT", str(nobody))

    async with open_client(None, read_only=read_only) as client:
        assert client == "the store"
    assert opened == [(nobody, {"read_only": read_only})]


async def test_an_address_asked_for_is_the_only_way(hub, nobody, opened, monkeypatch):
    monkeypatch.setenv("HOLDFAST_PORT", str(hub))

    async with open_client(f"http://127.0.0.1:{nobody}") as client:
        with pytest.raises(HubUnreachable, match=str(nobody)):
            await client.health()
    assert opened == []


async def test_an_error_of_the_work_does_not_open_a_second_door(hub, opened, monkeypatch):
    monkeypatch.setenv("HOLDFAST_PORT", str(hub))

    with pytest.raises(HubUnreachable, match="went away"):
        async with open_client(None):
            raise HubUnreachable("it went away")
    assert opened == []


def test_ctrl_c_is_no_traceback():
    async def work():
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as left:
        run(work())
    assert left.value.exit_code == 130
