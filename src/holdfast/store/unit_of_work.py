"""The only place that commits: many commands, grouped by kind, in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.errors import HoldfastError, StoreError, StoreRefused

from .base import Command, WriteConnection

Outcome = Any
"""What a command returned, or the exception its caller shall get."""


class UnitOfWork:
    """Stores batches of commands over one connection, each batch in one transaction."""

    def __init__(self, connection: WriteConnection, count: Callable[[str, int], None]) -> None:
        """Work over `connection`.

        Args:
            connection: used by this object only.
            count: told the number of statements each kind of command took.
        """
        self._connection = connection
        self._count = count

    def run(self, commands: Sequence[Command[Any]]) -> list[Outcome]:
        """Store a batch; one outcome per command, in their order.

        A command that fails takes nobody with it.

        Raises:
            Exception: the transaction as a whole failed; nothing of it is known to be stored.
        """
        groups: defaultdict[type[Command[Any]], list[int]] = defaultdict(list)
        for place, command in enumerate(commands):
            groups[type(command)].append(place)
        outcomes: list[Outcome] = [None] * len(commands)
        self._connection.begin()
        try:
            for kind in sorted(groups, key=lambda kind: kind.order):
                places = groups[kind]
                before = self._connection.count
                results = self._group(kind, [commands[place] for place in places])
                self._count(kind.__name__, self._connection.count - before)
                for place, result in zip(places, results, strict=True):
                    outcomes[place] = result
            self._connection.commit()
        except BaseException:
            self._connection.roll_back()
            raise
        return outcomes

    def _group(
        self, kind: type[Command[Any]], commands: Sequence[Command[Any]]
    ) -> Sequence[Outcome]:
        try:
            return self._guarded(kind, commands)
        except Exception as error:  # noqa: BLE001 - handed to the one caller it concerns
            if len(commands) == 1:
                return [self._told(kind, error)]
        outcomes: list[Outcome] = []
        for command in commands:
            try:
                outcomes.extend(self._guarded(kind, [command]))
            except Exception as error:  # noqa: BLE001 - handed to the one caller it concerns
                outcomes.append(self._told(kind, error))
        return outcomes

    def _guarded(
        self, kind: type[Command[Any]], commands: Sequence[Command[Any]]
    ) -> Sequence[Outcome]:
        self._connection.savepoint()
        try:
            results = kind.write_many(self._connection, commands)
            if len(results) != len(commands):
                raise AssertionError(f"{kind.__name__} gave {len(results)} results")
        except Exception:
            self._connection.undo()
            raise
        self._connection.release()
        return results

    def _told(self, kind: type[Command[Any]], error: Exception) -> HoldfastError:
        if isinstance(error, HoldfastError):
            return error
        told_as = StoreError if self._connection.passing(error) else StoreRefused
        told = told_as(f"{kind.__name__} was not stored: {type(error).__name__}: {error}")
        told.__cause__ = error
        return told
