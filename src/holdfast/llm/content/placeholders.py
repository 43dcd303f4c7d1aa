"""What stands in a text for what was taken out of it, and where that was."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable

from .findings import Finding


class Placeholders:
    """What stands for what was taken out: the same for the same text within an execution."""

    def __init__(self, begin: str = "", form: Callable[[str, str], str] | None = None) -> None:
        """Start with none.

        Args:
            begin: before each number; tells parts of one execution apart.
            form: makes one of a kind and a number; None: `[E-MAIL 1]`.
        """
        self._begin = begin
        self._form = form or _bracketed
        self._known: dict[tuple[str, str], str] = {}
        self._count: Counter[str] = Counter()
        self._lock = threading.Lock()

    def of(self, kind: str, text: str) -> str:
        """The placeholder of a text, such as `[E-MAIL 1]`."""
        with self._lock:
            known = self._known.get((kind, text))
            if known is None:
                self._count[kind] += 1
                known = self._form(kind, f"{self._begin}{self._count[kind]}")
                self._known[kind, text] = known
            return known

    @property
    def counts(self) -> dict[str, int]:
        """How many different texts of which kind have one."""
        with self._lock:
            return dict(sorted(self._count.items()))


def _bracketed(kind: str, number: str) -> str:
    return f"[{kind.upper()} {number}]"


def spans(findings: Iterable[Finding]) -> list[tuple[str, int, int]]:
    """Kind and place of findings in order, those that overlap as one."""
    found = [
        (one.kind, one.start, one.end)
        for one in findings
        if one.start is not None and one.end is not None and one.start < one.end
    ]
    joined: list[tuple[str, int, int]] = []
    for kind, start, end in sorted(found, key=lambda one: (one[1], -one[2])):
        if joined and start < joined[-1][2]:
            known = joined[-1]
            joined[-1] = (known[0], known[1], max(known[2], end))
        else:
            joined.append((kind, start, end))
    return joined
