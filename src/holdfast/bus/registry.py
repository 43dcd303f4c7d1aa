"""Which bus an address means."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from holdfast.errors import SettingsError
from holdfast.telemetry import Metrics

from .base import Bus
from .in_process import MemoryBus

SCHEMES = {"redis": "redis", "rediss": "redis", "unix": "redis"}
"""Schemes of bus addresses, and the file of each one's backend."""


def kind_of(url: str) -> str:
    """The backend an address means.

    Raises:
        SettingsError: it is none we know.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise SettingsError(
            f"HOLDFAST_BUS_URL: {scheme or 'an empty text'} is not a bus Holdfast knows",
            hint="use redis://HOST:PORT, for Valkey too",
        )
    return SCHEMES[scheme]


def open_bus(url: str | None, *, hub: str, space: str, metrics: Metrics) -> Bus:
    """A bus that is not started yet.

    Args:
        url: its address; None for one inside this process.
        hub: boot id of the hub it belongs to.
        space: begins all names on the server, the same for all hubs of one database.
        metrics: see `RedisBus`.

    Raises:
        SettingsError: the address is wrong, or the client for it is not installed.
    """
    if url is None:
        return MemoryBus(hub)
    return backend_of(url).RedisBus(url, hub=hub, space=space, metrics=metrics)


def backend_of(url: str) -> Any:
    """The module of the bus that an address means.

    Raises:
        SettingsError: the address is wrong, or the client for it is not installed.
    """
    kind = kind_of(url)
    try:
        return import_module(f"holdfast.bus.{kind}")
    except ImportError as error:
        raise SettingsError(
            f"HOLDFAST_BUS_URL: the client for {kind} cannot be imported: {error}",
            hint=f"pip install 'holdfast[{kind}]'",
        ) from error
