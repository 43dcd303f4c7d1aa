"""A pipeline whose steps see what no record is to keep."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from holdfast import Pipeline
from holdfast.pipelines.state import State


class Letter(BaseModel):
    """What came in."""

    body: str


class Reply(BaseModel):
    """What the model says."""

    to: str
    text: str


letters = Pipeline("redaction.letters", version="1", event=Letter)
reply = letters.model("reply", prompt="Letter: {{ event.body }}", alias="fast", answer=Reply)


async def post(state: State) -> dict[str, Any]:
    """Uses what the model said."""
    return {"sent to": state.reply.to, state.reply.to: 1}


async def argue(state: State) -> dict[str, Any]:
    """Fails, and says about whom."""
    raise ValueError(f"{state.reply.to} is not known")


async def tell(state: State) -> str:
    """What the caller gets."""
    return f"told {state.reply.to}"


posted = letters.node("post", post)
argued = letters.node("argue", argue, on_failure="continue")
told = letters.node("tell", tell)
letters.start(reply)
letters.chain(reply, posted, argued, told)
