"""Hold an agent's configuration against what this hub has, before anybody relies on it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from holdfast.agents.build import declare
from holdfast.agents.config import AgentConfig, SimpleSettings
from holdfast.domain.ids import new_id
from holdfast.errors import DeclarationError, HoldfastError, InvalidInput, NotFound
from holdfast.llm.registry import entry, names
from holdfast.store.queries import PromptByName

from .kit import Kit

SETTINGS = "simple.settings"

TEMPERATURE = "temperature"

_PLACE = re.compile(r"(simple|graph)\.settings(\.\w+)*")


async def check_agent(kit: Kit, owner_id: str, name: str, config: AgentConfig) -> None:
    """Prove that an agent could work here: its aliases, prompt, tools or graph are there.

    What it names by dotted path is imported.

    Raises:
        InvalidInput: something is not; `fields` says where.
    """
    settings = config.settings
    faults: list[dict[str, Any]] = []
    if isinstance(settings, SimpleSettings):
        faults += _aliases(kit, settings) or _parameters(kit, settings)
        faults += await _prompt(kit, owner_id, settings)
    if faults:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InvalidInput(
            f"configuration: {first['field']}: expected {first['expected']}, "
            f"got {first['got']}{more}",
            fields=faults,
        )
    declared = declare(id=new_id(), name=name, version=1, config=config)
    declared.find_prompts(kit.registry.prompts)
    try:
        # Aside: what is imported for the first time may take its time.
        await asyncio.to_thread(declared.check)
    except InvalidInput:
        raise
    except (DeclarationError, HoldfastError) as error:
        raise InvalidInput(
            f"configuration: {error.message}",
            hint=error.hint,
            fields=error.fields or [_place(config, error.message)],
        ) from error


def _place(config: AgentConfig, message: str) -> dict[str, Any]:
    """Where it stands; declarations tell it in words."""
    found = _PLACE.search(message)
    field = f"{config.kind}.settings" if found is None else found[0]
    return {"field": field, "expected": "what can be used here", "got": message}


def _aliases(kit: Kit, settings: SimpleSettings) -> list[dict[str, Any]]:
    asked = {
        "model": settings.model,
        "critique.model": settings.critique.model if settings.critique else None,
        "memory.compaction.model": settings.memory.compaction.model,
    }
    known = ", ".join(sorted(kit.aliases)) or "none is set, see HOLDFAST_MODELS"
    return [
        {"field": f"{SETTINGS}.{field}", "expected": f"a model alias: {known}", "got": alias}
        for field, alias in asked.items()
        if alias is not None and alias not in kit.aliases
    ]


def _parameters(kit: Kit, settings: SimpleSettings) -> list[dict[str, Any]]:
    """What its model's provider does not know, which else every turn would fail for."""
    provider = settings.provider if settings.model is None else kit.providers.get(settings.model)
    if provider is None:
        return []
    known = entry(provider)
    if known is None:
        expected = f"a provider: {', '.join(names())}"
        return [{"field": f"{SETTINGS}.provider", "expected": expected, "got": provider}]
    if known.parameters is None:
        return []
    takes = ", ".join(sorted(known.parameters)) or "none"
    return [
        {
            "field": f"{SETTINGS}.{'' if name == TEMPERATURE else 'parameters.'}{name}",
            "expected": f"what {provider} takes: {takes}",
            "got": value,
        }
        for name, value in settings.changes.items()
        if name not in known.parameters
    ]


async def _prompt(kit: Kit, owner_id: str, settings: SimpleSettings) -> list[dict[str, Any]]:
    wanted = settings.stored
    if wanted is None:
        return []
    field = f"{SETTINGS}.prompt"
    try:
        history = await kit.store.read(PromptByName(wanted.name, owner_id))
    except NotFound:
        return [{"field": field, "expected": "a prompt of the registry", "got": settings.prompt}]
    labels = sorted(one.label for one in history.labels)
    if wanted.label is None or wanted.label in labels:
        return []
    return [
        {
            "field": field,
            "expected": f"a label of {wanted.name}: {', '.join(labels)}",
            "got": settings.prompt,
        }
    ]
