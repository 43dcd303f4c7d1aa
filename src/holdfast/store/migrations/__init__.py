"""The schema's history, shipped in the package and run from Python.

Rules for a new version: it goes up and down on both databases; what it adds is named by the naming
convention of the tables; it moves no data that a running hub of the version before would write.
"""

from __future__ import annotations

from .running import check, compare, current, downgrade, head, new_version, upgrade

__all__ = ["check", "compare", "current", "downgrade", "head", "new_version", "upgrade"]
