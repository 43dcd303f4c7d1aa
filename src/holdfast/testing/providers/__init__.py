"""Fake model providers on loopback: real wire formats, and a log of what was billed."""

from __future__ import annotations

from .anthropic import FakeAnthropic
from .base import FakeAnswer, FakeRequest, FakeServer
from .ollama import FakeOllama
from .openai import FakeOpenAI

__all__ = [
    "FakeAnswer",
    "FakeAnthropic",
    "FakeOllama",
    "FakeOpenAI",
    "FakeRequest",
    "FakeServer",
]
