"""The hub: claims events, hands them to workers, writes records, supervises children."""

from .hub import AgentOptions, Hub, HubOptions

__all__ = ["AgentOptions", "Hub", "HubOptions"]
