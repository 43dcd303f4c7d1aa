"""The only room that speaks SQL: tables, migrations, the group-commit writer, reads.

`registry.open_store` opens a `Store`; `commands` are what can be written, `queries` what can be
read.
"""

from __future__ import annotations

from .store import Store

__all__ = ["Store"]
