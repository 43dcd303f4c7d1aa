"""The HTTP doors: one file per resource, HTTP status only here."""

from __future__ import annotations

from .application import create_api
from .parts import ApiParts

__all__ = ["ApiParts", "create_api"]
