"""The app the measures run: graphs that do nothing, and graphs that carry text."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from operator import or_
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from holdfast.llm.scripted import Script, ScriptedAnswer, ScriptedRequest
from holdfast.pipelines.graph import Graph
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State

STEPS = 10
TEXT_CHARS = 2048

_WORDS = """invoice order delivery customer refund address payment account question answer please
thank number date week item price total paid late missing wrong broken return change cancel today
tomorrow team support reply call email letter copy again never always before after since"""


def _paragraph(seed: int) -> str:
    words = random.Random(seed)
    return " ".join(words.choices(_WORDS.split(), k=400))[:TEXT_CHARS]


PARAGRAPHS = tuple(_paragraph(seed) for seed in range(2 * STEPS))
_numbers = count()


def distinct(text: str) -> str:
    """A text of the same length that no other call returns."""
    return f"{next(_numbers):012d} {text[13:]}"


class Nothing(TypedDict):
    text: str


async def nothing(_state: Nothing) -> None:
    return None


def _five() -> StateGraph[Nothing]:
    graph = StateGraph(Nothing)
    names = [f"n{i}" for i in range(5)]
    for name in names:
        graph.add_node(name, nothing)
    for before, after in zip([START, *names], names, strict=False):
        graph.add_edge(before, after)
    return graph


class Job(BaseModel):
    text: str = ""


noop = Graph("bench.noop", _five().compile(), version="1", event=Job)


async def idle(_state: State) -> None:
    return None


def _idle(name: str, *, durable: bool) -> Pipeline:
    pipeline = Pipeline(name, version="1", event=Job, durable=durable)
    nodes = [pipeline.node(f"n{i}", idle) for i in range(5)]
    pipeline.start(nodes[0])
    pipeline.chain(*nodes)
    return pipeline


declared = _idle("bench.declared", durable=False)
durable = _idle("bench.durable", durable=True)


class Texts(TypedDict):
    text: str
    texts: Annotated[dict[str, str], or_]


def _writer(i: int) -> Callable[[Texts], Awaitable[dict[str, dict[str, str]]]]:
    async def write(_state: Texts) -> dict[str, dict[str, str]]:
        return {"texts": {f"n{i}": distinct(PARAGRAPHS[i])}}

    return write


def _ten() -> StateGraph[Texts]:
    graph = StateGraph(Texts)
    names = [f"n{i}" for i in range(STEPS)]
    for i, name in enumerate(names):
        graph.add_node(name, _writer(i))
    for before, after in zip([START, *names], names, strict=False):
        graph.add_edge(before, after)
    return graph


values = Graph("bench.values", _ten().compile(), version="1", event=Job)


def _answer(request: ScriptedRequest) -> str:
    return distinct(PARAGRAPHS[STEPS + int(request.operation[1:])])


def _whole(request: ScriptedRequest) -> ScriptedAnswer:
    text = _answer(request)
    return ScriptedAnswer(text=text, chunks=(text,))


def _asking(name: str, script: Script) -> Pipeline:
    pipeline = Pipeline(name, version="1", event=Job, scripted=script)
    nodes = [
        pipeline.model(
            f"m{i}", system="Answer at length.", prompt="{{ event.text }} " + PARAGRAPHS[i]
        )
        for i in range(STEPS)
    ]
    pipeline.start(nodes[0])
    pipeline.chain(*nodes)
    return pipeline


models = _asking("bench.models", _whole)
streams = _asking("bench.streams", _answer)

RETENTION = timedelta(seconds=60)

soaked = Graph("bench.soaked", _five().compile(), version="1", event=Job, retention=RETENTION)


def _kept() -> Pipeline:
    """A pipeline that writes into every table a run can write into."""
    pipeline = Pipeline(
        "bench.kept",
        version="1",
        event=Job,
        scripted=lambda _request: ScriptedAnswer(text=distinct(PARAGRAPHS[0])),
        retention=RETENTION,
        durable=True,
        dedup=RETENTION,
        rate="100000/s",
    )
    before = pipeline.node("before", idle)
    answer = pipeline.model("answer", system="Answer.", prompt="{{ event.text }}")
    pipeline.start(before)
    pipeline.chain(before, answer)
    return pipeline


kept = _kept()
