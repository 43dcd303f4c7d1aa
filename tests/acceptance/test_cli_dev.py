"""`holdfast dev providers`: the printed settings work as they stand."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from holdfast.llm.factory import Models
from holdfast.settings import load

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
NAMES = {"anthropic", "google", "ollama", "openai"}


class Part(BaseModel):
    number: int = Field(gt=2)


class Order(BaseModel):
    kind: str = Field(min_length=6)
    parts: list[Part] = Field(min_length=1)
    note: str | None


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
async def test_the_printed_settings_reach_four_fakes(tmp_path, ended_by):
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    with subprocess.Popen(
        [HOLDFAST, "dev", "providers"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name, _, value = process.stdout.readline().partition("=")
        (printed,) = shlex.split(value)
        settings = load(environ={name: printed})
        assert set(json.loads(printed)) == NAMES | {"fast", "standard", "expert"}
        models = Models(settings.model_configs())
        try:
            for alias in sorted(NAMES):
                chat = models.chat(alias)
                assert (await chat.model.ainvoke("hi")).text == "This is a fake answer."
                bound = chat.model.bind(**chat.structured(Order))
                text = (await bound.ainvoke("An order.")).text
                if alias == "anthropic":  # is told of limits in words only, and fakes cannot read
                    assert json.loads(text).keys() == {"kind", "parts", "note"}
                else:
                    assert Order.model_validate_json(text).parts[0].number == 3
        finally:
            await models.aclose()
            process.send_signal(ended_by)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "not language models" in said
    assert len(said.splitlines()) == 5


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [HOLDFAST, "dev", "providers", "--port", port],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {port} cannot be listened on" in done.stderr
