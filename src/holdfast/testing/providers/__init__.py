"""Fake model providers on loopback: real wire formats, and a log of what was billed."""

from __future__ import annotations

from .anthropic import FakeAnthropic
from .base import FakeAnswer, FakeRequest, FakeServer
from .google import FakeGoogle
from .ollama import FakeOllama
from .openai import FakeOpenAI
from .samples import fitting

__all__ = [
    "FakeAnswer",
    "FakeAnthropic",
    "FakeGoogle",
    "FakeOllama",
    "FakeOpenAI",
    "FakeRequest",
    "FakeServer",
    "fitting",
]
