"""Embeddings: the offline one never changes, those of providers tell what they used."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.domain.knowledge import Embedding
from holdfast.errors import ModelError, SettingsError
from holdfast.llm import hashing
from holdfast.llm.embeddings import Embeddings, Vectors, read_embeddings
from holdfast.testing.providers import FakeAnswer, FakeGoogle, FakeOllama, FakeOpenAI

TEXT = "Größe matters: the QUICK brown fox, the fox! 42 ünï 漢字 🙂"

FAKES = {"openai": FakeOpenAI, "google": FakeGoogle, "ollama": FakeOllama}


def rounded(vector: list[float]) -> str:
    return hashlib.sha256(",".join(f"{x:.6f}" for x in vector).encode()).hexdigest()[:16]


def test_hashing_is_the_same_in_every_process_and_release() -> None:
    told = rounded(hashing.embed(TEXT))
    # Another way of counting must get another name than ngrams-1: vectors are stored.
    assert (hashing.MODEL, told) == ("ngrams-1", "be24015082d30c22")
    code = "import sys; from holdfast.llm.hashing import embed; print(embed(sys.argv[1])[:384])"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, TEXT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert [float(x) for x in done.stdout.strip("[]\n").split(",")] == hashing.embed(TEXT)


def like(a: str, b: str) -> float:
    return sum(x * y for x, y in zip(hashing.embed(a), hashing.embed(b), strict=True))


def test_hashing_knows_shared_words_and_their_parts() -> None:
    assert like(TEXT, TEXT) == pytest.approx(1)
    assert like("a red fox", "A RED, FOX!") == pytest.approx(1)
    assert like("the fox runs", "the fox sleeps") > like("the fox runs", "a cow sleeps") + 0.3
    assert like("pumping", "pump") > 0.2 > abs(like("pumping", "violet"))
    assert hashing.embed("?!") == [1.0, *[0.0] * 383]
    assert len(hashing.embed("x", 64)) == 64


@pytest.fixture(params=list(FAKES))
def provider(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(provider: str) -> Iterator[Any]:
    with FAKES[provider]() as fake:
        yield fake


def embeddings_at(provider: str, url: str, **parameters: Any) -> Embeddings:
    spec = {"model": f"{provider}:emb-1", "base_url": url, "parameters": parameters}
    return Embeddings(read_embeddings({"x": spec}, {"OPENAI_API_KEY": "sk-else"}))


async def test_batches_come_back_in_order_with_what_they_used(provider: str, server: Any) -> None:
    embeddings, into = embeddings_at(provider, server.url, batch=2, dimensions=8), Vectors()
    texts = ["one", "two words", "three words here"]
    await embeddings.embed(embeddings.config("x"), texts, into=into)
    assert len(server.requests) == 2
    assert [len(one) for one in into.packed] == [32, 32, 32]
    assert all(
        sum(x * x for x in struct.unpack("<8f", one)) == pytest.approx(1, abs=1e-5)
        for one in into.packed
    )
    alone = Vectors()
    for text in texts:
        await embeddings.embed(embeddings.config("x"), [text], into=alone)
    assert alone.packed == into.packed
    if provider == "google":  # the Gemini API does not say: estimated, and marked as such
        assert [(one.tokens, one.usage) for one in into.calls] == [
            (4, "estimated"),
            (4, "estimated"),
        ]
    else:
        assert [(one.tokens, one.usage) for one in into.calls] == [
            (3, "reported"),
            (3, "reported"),
        ]
    # The environment's key does not go to a server it was not meant for.
    assert "sk-else" not in str([request.headers for request in server.requests])
    await embeddings.aclose()


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "rate_limit"), (500, "temporary"), (400, "permanent")]
)
async def test_a_failed_call_is_made_once_and_told(
    provider: str, server: Any, status: int, kind: str
) -> None:
    embeddings, into = embeddings_at(provider, server.url), Vectors()
    server.answer([FakeAnswer(status=status)])
    with pytest.raises(ModelError) as failed:
        await embeddings.embed(embeddings.config("x"), ["a"], into=into)
    assert (failed.value.error_class, failed.value.http_status) == (kind, status)
    assert len(server.requests) == 1
    (call,) = into.calls
    assert (call.usage, call.tokens, call.error_class, call.http_status) == (
        "unknown",
        None,
        kind,
        status,
    )
    await embeddings.aclose()


async def test_a_provider_without_embeddings_says_so() -> None:
    embeddings = Embeddings(
        read_embeddings({"x": {"model": "anthropic:c", "base_url": "http://127.0.0.1:9"}}, {})
    )
    with pytest.raises(SettingsError, match="anthropic has no embeddings"):
        await embeddings.embed(embeddings.config("x"), ["a"], into=Vectors())
    await embeddings.aclose()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("hashing:other", "no model 'other'"),
        ("nobody:x", "unknown provider 'nobody'"),
        ({"model": "openai:x", "parameters": {"temperature": 1}}, "no parameter 'temperature'"),
        ({"model": "openai:x", "api_key": "sk-secret"}, "must be a reference"),
        (
            {"model": "hashing:ngrams-1", "parameters": {"dimensions": 0}},
            "dimensions must be a whole number",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(spec: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        read_embeddings({"x": spec}, {"OPENAI_API_KEY": "k"})
    assert "HOLDFAST_EMBEDDINGS, alias 'x'" in str(refused.value)
    assert "sk-secret" not in str(refused.value)


def test_vectors_are_asked_of_whoever_made_them() -> None:
    small = {"model": "hashing:ngrams-1", "parameters": {"dimensions": 64}}
    embeddings = Embeddings(read_embeddings({"small": small}, {}))
    made = {"provider": "hashing", "model": "ngrams-1"}
    assert embeddings.like(Embedding(**made, dimensions=64)).alias == "small"
    assert embeddings.like(Embedding(**made, dimensions=384)).alias == "default"
    with pytest.raises(SettingsError, match="HOLDFAST_EMBEDDINGS"):
        embeddings.like(Embedding(**made, dimensions=10))
