"""A hub from outside, over HTTP: `Client` for asyncio, `SyncClient` for everything else.

Answers are the JSON objects of the API, described in `/openapi.json`.
"""

from __future__ import annotations

from .answers import Entry
from .client import Client
from .sync import SyncClient

__all__ = ["Client", "Entry", "SyncClient"]
