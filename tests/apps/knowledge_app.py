"""Pipelines that keep documents and search them."""

from __future__ import annotations

from pydantic import BaseModel

from holdfast import Pipeline, State


class Note(BaseModel):
    key: str
    text: str
    lang: str = "en"


class Question(BaseModel):
    text: str
    lang: str = "en"
    mode: str = "hybrid"


learn = Pipeline("knowledge.learn", version="1", event=Note)
learn.start(
    learn.index(
        "keep",
        collection="manuals",
        key="{{ event.key }}",
        text=lambda state: state.event.text,
        metadata=lambda state: {"lang": state.event.lang},
    )
)


async def prompt(state: State[Question]) -> str:
    return f"{state.find.hits[0].key if state.find.hits else 'nobody'}: {state.find.text}"


answer = Pipeline("knowledge.answer", version="1", event=Question)
find = answer.search(
    "find",
    collection="manuals",
    query="{{ event.text }}",
    filters=lambda state: {"lang": state.event.lang},
    limit=2,
    retries=1,
)
answer.start(find)
answer.edge(find, answer.node(prompt))
