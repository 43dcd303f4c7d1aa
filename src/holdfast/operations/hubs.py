"""The hubs of this database, as they tell of themselves."""

from __future__ import annotations

from holdfast.domain.hubs import KnownHub
from holdfast.store.queries import AllHubs

from .kit import Kit
from .views import View, iso


async def all_hubs(kit: Kit) -> list[KnownHub]:
    """The hubs that live, and those that died not long ago; oldest first."""
    return await kit.store.read(AllHubs())


def hub_view(hub: KnownHub) -> View:
    """A hub as it is shown."""
    return {
        "id": hub.id,
        "kind": hub.kind,
        "roles": [role.value for role in hub.roles],
        "host": hub.host,
        "pid": hub.pid,
        "version": hub.version,
        "alive": hub.alive,
        "stopping": hub.stopping,
        "started_at": iso(hub.started_at),
        "seen_at": iso(hub.seen_at),
    }
