"""One pipeline for each provider that makes one small call, for `holdfast dev smoke`."""

from __future__ import annotations

from pydantic import BaseModel

from holdfast.pipelines.pipeline import Pipeline

PROVIDERS = ("anthropic", "google", "ollama", "openai")


class Nothing(BaseModel):
    """The event says nothing."""


def _asking(provider: str) -> Pipeline:
    made = Pipeline(f"smoke.{provider}", version="1", event=Nothing, deadline=50)
    made.start(made.model("ask", prompt="Answer with the one word: ready", alias=provider))
    return made


anthropic, google, ollama, openai = (_asking(provider) for provider in PROVIDERS)
