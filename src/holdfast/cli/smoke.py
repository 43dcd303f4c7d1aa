"""`holdfast dev smoke`: one small call to each provider at hand, and what was recorded of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from .dev import MODELS
from .figures import dollars, milliseconds, one_line

OLLAMA_URL = "OLLAMA_HOST"
"""The variable by which Ollama's own tools find its server."""

_APP = "holdfast.testing.smoke"
_OURS = ("HOLDFAST_", "DATABASE_URL", "MANAGER_PORT")  # the call shall touch nobody's hub


def chosen(
    environ: Mapping[str, str], models: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Which providers can be asked: their aliases, and why the others are left out.

    Args:
        environ: environment variables.
        models: by provider, other models than `MODELS`.
    """
    from holdfast.llm.registry import entry

    asked: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    for provider, usual in MODELS.items():
        known = entry(provider)
        spec: dict[str, Any] = {
            "model": f"{provider}:{models.get(provider, usual)}",
            "parameters": {"max_tokens": 1024},  # some reason before they answer
        }
        if provider == "ollama":
            url = environ.get(OLLAMA_URL, "").strip()
            names = (OLLAMA_URL,)
            spec["base_url"] = url if "://" in url else f"http://{url}"
        else:
            variables = () if known is None else (known.key_variable, known.url_variable)
            names = tuple(name for name in variables if name)
        if any(environ.get(name, "").strip() for name in names):
            asked[provider] = spec
        else:
            skipped[provider] = f"{' and '.join(names)} not set"
    return asked, skipped


async def smoke(environ: Mapping[str, str], models: Mapping[str, str]) -> bool:
    """Ask, and print; whether every call that was made succeeded.

    Args:
        environ: environment variables.
        models: by provider, other models than the usual ones.
    """
    from holdfast.client.local import connect
    from holdfast.settings import load

    asked, skipped = chosen(environ, models)
    well = True
    if asked:
        kept = {name: value for name, value in environ.items() if not name.startswith(_OURS)}
        with tempfile.TemporaryDirectory(prefix="holdfast-smoke-") as home:
            overrides = {"home": Path(home), "apps": (_APP,), "models": asked}
            made = load({**overrides, "log_level": "error"}, environ=kept)
            async with connect(made) as client:
                for provider in asked:
                    event = await client.submit(f"smoke.{provider}", {}, wait=60)
                    record = await client.execution(event["execution_id"])
                    well = _show(provider, record) and well
    for provider, why in skipped.items():
        typer.echo(f"{provider:<10} skipped: {why}")
    return well


def _show(provider: str, record: Mapping[str, Any]) -> bool:
    """Print what was recorded of a call; whether it succeeded."""
    attempts = [one for step in record["steps"] for one in step["attempts"]]
    well = record["status"] == "succeeded"
    failure: Mapping[str, Any] | None = record["error"]
    typer.echo(f"{provider:<10} {record['status']}")
    for one in attempts:
        tokens = one["tokens"]
        cost = one["cost_usd"]
        by = f" by {one['price_source']}" if one["price_source"] else ""
        known = tokens["input"] is not None
        counted = f"{tokens['input']} in, {tokens['output']} out" if known else "not told"
        facts = {
            "model": one["model"],
            "answer": one_line(record["output"], 60) if well else None,
            "tokens": f"{counted} ({tokens['usage']})",
            "cost": "unknown" if cost is None else f"{dollars(cost)}{by}",
            "request id": one["request_id"],
            "finish": one["finish_reason"],
            "took": milliseconds(one["duration_ms"]),
            "error": one_line(one["error"]["message"], 200) if one["error"] else None,
        }
        for name, value in facts.items():
            if value is not None:
                typer.echo(f"  {name:<11}{value}")
    if not attempts and failure is not None:
        typer.echo(f"  {'error':<11}{one_line(failure['message'], 200)}")
    return well
