"""The code version of a declaration: a short hash over the sources it depends on."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

HASH_BYTES = 6
"""Bytes of the hash: enough to tell versions of one pipeline apart."""


def calling_module() -> str:
    """Name of the module whose code called a declaration's constructor."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("holdfast.pipelines"):
            return name
        frame = frame.f_back
    return "__main__"


def folder_of(module: str) -> Path | None:
    """Where a module's file stands; None for code without one (a notebook)."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else Path(file).parent


def fingerprint(module: str, objects: Iterable[object], *texts: str) -> str:
    """Hash of the source files of `module` and of the modules that `objects` come from.

    Args:
        module: where the declaration stands.
        objects: functions and classes it is made of.
        *texts: what else a run depends on (prompts, wiring).

    Returns:
        12 hex digits. Code without a source file (a notebook) counts by its bytecode.
    """
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    objects = list(objects)
    names = {module, *(getattr(item, "__module__", None) or module for item in objects)}
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + _source(name))
    for item in objects:
        code = getattr(item, "__code__", None)
        if code is not None and not Path(code.co_filename).is_file():
            digest.update(code.co_code)
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _source(module: str) -> bytes:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():
        return b""
    return Path(file).read_bytes()
