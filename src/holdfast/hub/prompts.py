"""Prompts in the hub: which versions a run uses, known from memory and refreshed by notices."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson

from holdfast.bus import Notice
from holdfast.bus.base import PROMPTS
from holdfast.domain.events import Claimed
from holdfast.domain.prompts import Draft
from holdfast.operations.kit import Kit
from holdfast.pipelines.base import Declaration
from holdfast.runner.client_ports import STORE_TIMEOUT_S
from holdfast.store.commands import PutPromptFiles
from holdfast.store.queries import AllLabels, PromptContent

from .lookout import Lookout
from .patience import patiently

SWEEP_S = 30.0
"""How late this hub may be to hear of a moved label, when the notice was lost."""

KEPT = 256
"""Contents kept in memory for runners to come."""


class Prompts:
    """Pins prompts for executions and hands out their contents; belongs to the hub's loop."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._labels: dict[tuple[str, str, str], str] = {}  # owner, name, label to hash
        self._contents: OrderedDict[tuple[str, str, str], Draft] = OrderedDict()
        self._lookout = Lookout(kit, self._read, topic=PROMPTS, sweep_s=SWEEP_S)

    async def start(self) -> None:
        """Store what the apps' files say, learn where labels stand, then keep up."""
        drafts = tuple(one.draft for one in self._kit.registry.prompts)
        if drafts and await self._kit.store.write(PutPromptFiles(drafts)):
            self._kit.bus.publish(Notice(PROMPTS))
        await self._lookout.start()

    async def close(self) -> None:
        """Keep up no more."""
        await self._lookout.close()

    async def refresh(self) -> None:
        """See `Lookout.refresh`."""
        await self._lookout.refresh()

    def pins(self, claimed: Claimed, declared: Declaration) -> dict[str, str]:
        """The versions that an execution begins with, as its nodes ask for them.

        One that goes on after a halt keeps those it began with.
        """
        if claimed.halt is not None:
            return dict(claimed.halt.prompts)
        registry, owner_id = self._kit.registry, claimed.owner_id
        pins: dict[str, str] = {}
        for asked in declared.stored_prompts():
            version = None
            if asked.label is not None:
                version = self._labels.get((owner_id, asked.name, asked.label))
            file = registry.prompts.find(asked.name)
            if version is None and file is not None:
                version = file.draft.hash
            if version is not None:
                pins[asked.key] = version
        return pins

    async def version(self, owner_id: str, event_id: str, args: Mapping[str, Any]) -> Any:
        """Answer a runner that has not the content; while the database is away it waits.

        Raises:
            NotFound: the owner sees no such version.
        """
        key = (owner_id, args["name"], args["version"])
        draft = self._contents.get(key)
        if draft is None:
            file = self._kit.registry.prompts.find(args["name"])
            if file is not None and file.draft.hash == args["version"]:
                draft = file.draft
        if draft is None:
            asked = PromptContent(args["name"], owner_id, args["version"])
            stored = await patiently(
                self._kit.store,
                lambda: self._kit.store.read(asked),
                within_s=STORE_TIMEOUT_S,
                event_id=event_id,
            )
            draft = self._contents[key] = stored.draft
            if len(self._contents) > KEPT:
                self._contents.popitem(last=False)
        return orjson.loads(orjson.dumps(draft.to_json()))

    async def _read(self) -> None:
        found = await self._kit.store.read(AllLabels())
        self._labels = {(one.owner_id, one.name, one.label): one.hash for one in found}
