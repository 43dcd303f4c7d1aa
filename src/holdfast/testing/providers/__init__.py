"""Fake model providers on loopback: real wire formats, and a log of what was billed."""

from __future__ import annotations

from .base import FakeAnswer, FakeRequest
from .openai import FakeOpenAI

__all__ = ["FakeAnswer", "FakeOpenAI", "FakeRequest"]
