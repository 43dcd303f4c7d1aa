"""Four vendors behind aliases: one record, and figures that are the servers' own."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from contextlib import ExitStack
from decimal import Decimal

import genai_prices
import orjson
import pytest
from pydantic import BaseModel

from holdfast.domain.ids import new_id
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.llm.factory import Models
from holdfast.pipelines.context import current_run
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig, RunSpec
from holdfast.testing.ports import MemorySink, memory_ports
from holdfast.testing.providers import (
    FakeAnswer,
    FakeAnthropic,
    FakeGoogle,
    FakeOllama,
    FakeOpenAI,
)

FAKES = {
    "anthropic": (FakeAnthropic, "claude-sonnet-5-5"),
    "google": (FakeGoogle, "gemini-3.8-flash"),
    "ollama": (FakeOllama, "llama3.2"),
    "openai": (FakeOpenAI, "gpt-6-luna"),
}
NAMES = tuple(FAKES)
CALLS = 500
PICO = Decimal(10) ** 12


class Mail(BaseModel):
    body: str


class Verdict(BaseModel):
    spam: float


@pytest.fixture(scope="module")
def servers():
    with ExitStack() as stack:
        yield {name: stack.enter_context(fake()) for name, (fake, _) in FAKES.items()}


@pytest.fixture(autouse=True)
def clean(servers):
    for server in servers.values():
        server.requests.clear()
        server.answer(())


def config(servers, alias, provider, **fields):
    return ModelConfig(
        alias=alias,
        provider=provider,
        model=FAKES[provider][1],
        base_url=servers[provider].url,
        **fields,
    )


class Runs:
    def __init__(self, pipelines, configs):
        self.sink = MemorySink()
        self.models = Models(configs)
        self.engine = Engine(
            registry=Registry(pipelines),
            models=self.models,
            sink=self.sink,
            ports=memory_ports(),
            threads=ExecutionThreads(4),
            on_end=lambda execution_id: None,
            on_abandoned=lambda execution_id: None,
        )

    def start(self, name, body):
        execution_id = new_id()
        self.engine.start(
            RunSpec(
                execution_id=execution_id,
                event_id=f"event of {execution_id}",
                owner_id="local",
                kind="pipeline",
                name=name,
                version="1",
                data=orjson.dumps({"body": body}),
                delivery=1,
                deadline_s=None,
            )
        )
        return execution_id

    async def records(self, started):
        await self.engine.drain()
        await self.models.aclose()
        return [self.sink.record(execution_id) for execution_id in started]


async def test_one_pipeline_four_providers_by_alias_alone(servers):
    judging = Pipeline("mail.judge", version="1", event=Mail)
    judging.start(
        judging.model("judge", prompt="Spam? {{ event.body }}", alias="fast", answer=Verdict)
    )
    shapes, tokens = {}, {}
    for provider in NAMES:
        servers[provider].answer(['{"spam": 0.5}'])
        runs = Runs([judging], {"fast": config(servers, "fast", provider)})
        (record,) = await runs.records([runs.start("mail.judge", "buy now")])
        (step,), (attempt,), (request,) = (
            record.steps,
            record.attempts,
            servers[provider].requests,
        )
        assert (attempt.provider, attempt.model) == (provider, FAKES[provider][1])
        assert (attempt.tokens_input, attempt.tokens_output) == (
            request.tokens_input,
            request.tokens_output,
        )
        assert "".join(text for _, text in runs.sink.tokens_of[record.running.id]) == (
            '{"spam": 0.5}'
        )
        shapes[provider] = {
            "step": (step.kind, step.operation, step.status),
            "attempt": (attempt.status, attempt.usage, attempt.validation, attempt.error),
            "answer": record.output,
            "prompt": record.text(attempt.prompt_user),
            "known": [f for f in FIELDS if getattr(attempt, f) is not None],
        }
        tokens[provider] = attempt.cost_pico
    assert shapes["anthropic"] == shapes["google"] == shapes["ollama"] == shapes["openai"]
    assert tokens["ollama"] is None  # nobody publishes a price for it: unknown, not free
    assert all(cost > 0 for name, cost in tokens.items() if name != "ollama")


FIELDS = (
    "provider",
    "model",
    "messages",
    "raw_response",
    "first_token_us",
    "duration_us",
    "finish_reason",
    "tokens_input",
    "tokens_output",
)


class Chance:
    """Answers well or badly, and remembers how."""

    def __init__(self, provider, seed):
        self.provider = provider
        self.random = random.Random(f"{provider} {seed}")
        self.said = {}

    def __call__(self, request):
        answer = self.pick()
        self.said[request.request_id] = answer
        return answer

    def pick(self):
        words = " ".join(self.random.choice(["yes", "no", "rather", "not"]) for _ in range(9))
        kind = self.random.random()
        if kind < 0.08:
            return FakeAnswer(status=429, headers={"retry-after": "0"})
        if kind < 0.16:
            busy = 529 if self.provider == "anthropic" else 503
            return FakeAnswer(status=self.random.choice([500, busy]))
        if kind < 0.28:
            fault = self.random.choice(["cut_after", "close_after", "garble_after", "error_after"])
            return FakeAnswer(text=words, **{fault: self.random.randrange(3)})
        if kind < 0.34:
            return FakeAnswer(text=words, report_usage=False)
        return FakeAnswer(
            text=words,
            tokens_cached=self.random.randrange(4),
            tokens_reasoning=self.random.randrange(3) * (self.provider != "ollama"),
        )


def broken(answer):
    faults = (answer.cut_after, answer.close_after, answer.garble_after, answer.error_after)
    return any(fault is not None for fault in faults)


def by_nodes(servers, name, instead):
    """Retries and the stand-in are the node's."""
    p = Pipeline(f"mail.{name}", version="1", event=Mail)
    other = p.model("other", prompt="Again: {{ event.body }}", alias=instead)
    p.start(
        p.model(
            "first",
            prompt="Say something of {{ event.body }}",
            alias=name,
            retries=2,
            backoff=Backoff(first=0.01, most=0.01),
            on_failure=other,
        )
    )
    return p, config(servers, name, name)


def by_aliases(servers, name, instead):
    """They are the alias's, for whole answers and for streams."""
    p = Pipeline(f"mail.{name}", version="1", event=Mail)
    asks = p.model("first", prompt="Say something of {{ event.body }}", alias=name)

    @p.node
    async def reads(state):
        model = current_run().models.chat(name).model
        return "".join([str(piece.text) async for piece in model.astream(state.event.body or "?")])

    p.start(asks)
    p.chain(asks, reads)
    alias = config(
        servers,
        name,
        name,
        retries=2,
        backoff={"first": 0.01, "most": 0.01},
        fallbacks=[instead],
        time_limit_s=600,
    )
    return p, alias


@pytest.mark.parametrize("declared", [by_nodes, by_aliases])
async def test_what_is_recorded_is_what_the_servers_counted(servers, declared):
    chances = {name: Chance(name, 7) for name in NAMES}
    pipelines, configs = [], {}
    for at, name in enumerate(NAMES):
        servers[name].answer(chances[name])
        p, configs[name] = declared(servers, name, NAMES[(at + 1) % len(NAMES)])
        pipelines.append(p)
    runs = Runs(pipelines, configs)
    started = []
    for at in range(CALLS):
        started.append(runs.start(f"mail.{NAMES[at % 4]}", "word " * (at % 17)))
        if at % 25 == 24:
            await runs.engine.drain()
    records = await runs.records(started)

    attempts = [attempt for record in records for attempt in record.attempts]
    assert len(attempts) == sum(len(server.requests) for server in servers.values()) > CALLS
    if declared is by_nodes:
        assert any(step.operation == "other" for record in records for step in record.steps)
    else:
        calls = defaultdict(list)
        for record in records:
            for attempt in record.attempts:
                calls[record.running.id, attempt.step, attempt.call].append(attempt)
        assert any(len({a.provider for a in tries}) > 1 for tries in calls.values())
        for tries in calls.values():
            assert all(a.status == "failed" for a in tries[:-1]), "nothing follows an answer"
    for name in NAMES:
        mine = [attempt for attempt in attempts if attempt.provider == name]
        said = chances[name].said
        log = [(request, said[request.request_id]) for request in servers[name].requests]
        whole = [r for r, a in log if a.status == 200 and not broken(a) and a.report_usage]
        assert all(request.complete for request in whole)
        usages = Counter(attempt.usage for attempt in mine)
        assert usages == {
            "reported": len(whole),
            "unbilled": sum(a.status != 200 for _, a in log),
            "unknown": sum(a.status == 200 and (broken(a) or not a.report_usage) for _, a in log),
        }
        assert Counter(map(recorded, filter(known, mine))) == Counter(
            counted(request, name) for request in whole
        )
        unknown = [attempt for attempt in mine if attempt.usage == "unknown"]
        assert {(a.tokens_input, a.tokens_output, a.cost_pico) for a in unknown} == {
            (None, None, None)
        }
        if name == "ollama":
            assert {a.cost_pico for a in mine if known(a)} == {None}
        else:
            assert sum(a.cost_pico for a in mine if known(a)) == sum(
                dollars(request, name) * PICO for request in whole
            )


def known(attempt):
    return attempt.usage == "reported"


def recorded(attempt):
    return (
        attempt.tokens_input,
        attempt.tokens_output,
        attempt.tokens_cached or 0,
        attempt.tokens_reasoning or 0,
    )


def counted(request, name):
    cached = 0 if name == "ollama" else request.tokens_cached
    return (request.tokens_input, request.tokens_output, cached, request.tokens_reasoning)


def dollars(request, name):
    usage = genai_prices.Usage(
        input_tokens=request.tokens_input,
        cache_read_tokens=request.tokens_cached,
        output_tokens=request.tokens_output,
    )
    price = genai_prices.calc_price(usage, model_ref=FAKES[name][1], provider_id=name)
    return price.total_price
