"""What `Client` can do about prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import quote

View = dict[str, Any]

PROMPTS = "/api/v1/prompts"


class Prompts(ABC):
    """Part of `Client`."""

    async def prompts(self) -> View:
        """All prompts, by name, and where their labels stand: `items`."""
        return await self._ask("GET", PROMPTS)

    async def prompt(self, name: str) -> View:
        """A prompt: its `versions` and `labels`, who uses it, how its labels moved (`moves`)."""
        return await self._ask("GET", f"{_prompt(name)}/versions")

    async def prompt_version(self, name: str, version: str) -> View:
        """A version with its texts.

        Args:
            name: of the prompt.
            version: a label, or a hash or the beginning of one.
        """
        return await self._ask("GET", f"{_prompt(name)}/versions/{quote(version, safe='')}")

    async def put_prompt(self, name: str, source: str) -> View:
        """Store a prompt's text as a version; no label moves by it.

        Args:
            name: of the prompt.
            source: its text, as a file would have it.
        """
        return await self._post(PROMPTS, {"name": name, "source": source})

    async def move_label(
        self, name: str, label: str, version: str, *, reason: str | None = None
    ) -> View:
        """Let a label stand at a version, for the owner's runs that begin from now on."""
        body: View = {"version": version} | ({} if reason is None else {"reason": reason})
        return await self._put(_label(name, label), body)

    async def roll_back_label(self, name: str, label: str, *, reason: str | None = None) -> View:
        """Let a label stand where it stood before its last move."""
        body: View = {} if reason is None else {"reason": reason}
        return await self._post(f"{_label(name, label)}/rollback", body)

    async def diff_prompts(self, name: str, a: str, b: str) -> View:
        """What differs between two versions of a prompt: `same`, `parts`."""
        return await self._ask("GET", f"{_prompt(name)}/diff", params={"a": a, "b": b})

    @abstractmethod
    async def _ask(self, method: str, path: str, *, extra_s: float = 0, **rest: Any) -> View: ...

    @abstractmethod
    async def _post(self, path: str, body: View) -> View: ...

    @abstractmethod
    async def _put(self, path: str, body: View) -> View: ...


def _prompt(name: str) -> str:
    return f"{PROMPTS}/{quote(name, safe='')}"


def _label(name: str, label: str) -> str:
    return f"{_prompt(name)}/labels/{quote(label, safe='')}"
