"""The types that users' editors infer, as the type checker of the project sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

USER_CODE = """
from typing import assert_type

from holdfast import Pipeline, State
from holdfast.pipelines.model import ModelNode
from holdfast.pipelines.nodes import FunctionNode
from pydantic import BaseModel


class Note(BaseModel):
    text: str


class Answer(BaseModel):
    yes: bool


p = Pipeline("types.user", version="1", event=Note)


@p.node
async def later(state: State[Note]) -> int:
    return len(state.event.text)


@p.node
def now(state: State) -> str:
    return str(state[later] + state.later)


@p.node(retries=2, timeout=5)
async def tried(state: State) -> float:
    return 1.0


@p.node("renamed", on_failure="continue")
def other(state: State) -> bytes:
    return b""


both = p.parallel("both", [tried, other], on_failure="continue")
asked = p.model("asked", prompt="?", answer=Answer)
told = p.model("told", prompt="?")


def pins(state: State[Note]) -> None:
    assert_type(later, FunctionNode[int])
    assert_type(now, FunctionNode[str])
    assert_type(tried, FunctionNode[float])
    assert_type(other, FunctionNode[bytes])
    assert_type(state[tried], float)
    assert_type(asked, ModelNode[Answer])
    assert_type(told, ModelNode[str])
    assert_type(state.event, Note)
    assert_type(state[later], int)
    assert_type(state[asked], Answer)


p.start(later)
p.route(later, {now: lambda s: s.later > 3, "asked": lambda s: s[later] > 2}, otherwise=told)
"""


def test_what_an_editor_infers(tmp_path):
    (tmp_path / "user_code.py").write_text(USER_CODE)
    (tmp_path / "pyrightconfig.json").write_text(
        f'{{"pythonVersion": "3.11", "typeCheckingMode": "strict", "extraPaths": ["{ROOT}/src"]}}'
    )
    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
