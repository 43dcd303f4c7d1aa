"""The hub: claims events, hands them to workers, writes records, supervises children."""

from .hub import Hub, HubOptions

__all__ = ["Hub", "HubOptions"]
