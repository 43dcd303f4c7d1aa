"""The versions of prompts that an execution uses: found before its first step, then kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping

from holdfast.domain.prompts import FILE, Draft, Pin
from holdfast.domain.replays import Plan
from holdfast.errors import PortError
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.wording import Wording, pin_key, worded
from holdfast.ports import PromptsPort, RunSpec

KEPT = 256
"""Versions whose templates stay compiled."""


class PinnedPrompts:
    """Makes the pins of an execution into wordings; a content crosses once.

    Args:
        port: where contents come from that no file of this process has.
    """

    def __init__(self, port: PromptsPort) -> None:
        self._port = port
        self._kept: OrderedDict[Pin, Wording] = OrderedDict()

    async def of(
        self, spec: RunSpec, plan: Plan | None, declaration: Declaration
    ) -> dict[str, Wording]:
        """What an execution uses, as its nodes ask for it; what the hub left out, files say.

        Raises:
            PortError: a version cannot be had.
        """
        return {
            key: await self._wording(spec.execution_id, pin, declaration)
            for key, pin in _pins(spec.prompts, plan)
        }

    async def _wording(self, execution_id: str, pin: Pin, declaration: Declaration) -> Wording:
        known = self._kept.get(pin)
        if known is None:
            draft = _at_hand(declaration, pin)
            if draft is None:
                draft = await self._fetched(execution_id, pin)
            known = self._kept[pin] = worded(draft, pin.label)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(pin)
        return known

    async def _fetched(self, execution_id: str, pin: Pin) -> Draft:
        written = await self._port.version(
            execution_id=execution_id, name=pin.name, version=pin.hash
        )
        draft = Draft(**written)
        if draft.hash != pin.hash:
            raise PortError(f"version {pin.hash} of prompt {pin.name} is not what it was")
        return draft


def _at_hand(declaration: Declaration, pin: Pin) -> Draft | None:
    """The content, where a file of this process has the same."""
    files = declaration.prompt_files
    file = None if files is None else files.find(pin.name)
    return file.draft if file is not None and file.draft.hash == pin.hash else None


def _pins(prompts: Mapping[str, str], plan: Plan | None) -> Iterator[tuple[str, Pin]]:
    for key, version in prompts.items():
        name, _, label = key.partition("@")
        yield key, Pin(name=name, label=label or FILE, hash=version)
    for parts in plan.prompts.values() if plan else ():
        if "version" in parts:
            name, version = parts["name"], parts["version"]
            yield pin_key(name, version), Pin(name=name, label=parts["label"], hash=version)
