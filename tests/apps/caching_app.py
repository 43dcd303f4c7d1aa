"""A pipeline whose prompt has a long static part."""

from __future__ import annotations

from pydantic import BaseModel

from holdfast import Pipeline

STATIC = " ".join(f"w{at % 9973:04d}" for at in range(1500))


class Mail(BaseModel):
    body: str


parse = Pipeline("test.parse", version="1", event=Mail)
parse.start(parse.model("parse", system=STATIC, prompt="{{ event.body }}", alias="fast"))

small = Pipeline("test.small", version="1", event=Mail)
small.start(
    small.model(
        "parse", system=" ".join(STATIC.split()[:997]), prompt="{{ event.body }}", alias="fast"
    )
)
