"""The contract of the room: what a command and a query are, and what a connection offers them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from holdfast.errors import HoldfastError

from .frames import Frames
from .statements import Insert, Statement

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Lane = Literal["submit", "claim", "finish"]
"""Commands of one lane run one group after the other; on PostgreSQL the lanes run side by side."""

LANES: tuple[Lane, ...] = ("submit", "claim", "finish")

Row = tuple[Any, ...]


class Reads(Protocol):
    """What a query may do with a connection: ask."""

    frames: Frames
    dialect: ClassVar[str]  # `sqlite` or `postgresql`, for the few questions that differ

    @property
    def vectors(self) -> bool:
        """Whether the database itself compares vectors."""
        ...

    def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """All rows of a select."""
        ...


class Writes(Reads, Protocol):
    """What a command may do inside the transaction it is given."""

    def now(self) -> int:
        """The store's clock in microseconds, the same for the whole unit of work."""
        ...

    def later(self) -> int:
        """The same clock by now: not before anything that this unit of work has read."""
        ...

    def change(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> None:
        """Run an update or delete once per set of values."""
        ...

    def insert(self, insert: Insert, rows: Sequence[Sequence[Any]]) -> None:
        """Insert whole rows, in few statements."""
        ...

    def in_order(self) -> AbstractContextManager[None]:
        """A span in which the database reads an index in its order rather than sort."""
        ...


class ReadConnection(Reads, Protocol):
    """A connection that cannot write."""

    count: int  # statements run so far

    def snapshot(self) -> AbstractContextManager[None]:
        """A span in which every statement sees the same state of the database."""
        ...

    def lost(self) -> bool:
        """Whether the connection can no longer be used."""
        ...

    def cut(self) -> None:
        """Break the connection under whoever waits for its answer; from any thread."""
        ...

    def close(self) -> None:
        """Give the connection back to the system."""
        ...


class WriteConnection(Writes, Protocol):
    """A connection that can write; only `UnitOfWork` moves its transaction."""

    count: int  # statements run so far

    def begin(self) -> None:
        """Open a transaction that will write."""
        ...

    def commit(self) -> None:
        """Make the transaction's writes last."""
        ...

    def roll_back(self) -> None:
        """Undo the transaction."""
        ...

    def savepoint(self) -> None:
        """Mark the place to which `undo` returns."""
        ...

    def release(self) -> None:
        """Keep what was done since `savepoint`."""
        ...

    def undo(self) -> None:
        """Undo what was done since `savepoint`, and forget the mark."""
        ...

    def passing(self, error: Exception) -> bool:
        """Whether a command that failed so may succeed another time."""
        ...

    def cut(self) -> None:
        """Break the connection under whoever waits for its answer; from any thread."""
        ...

    def rest(self) -> None:
        """Housekeeping between two units of work, after the callers have their answers."""
        ...

    def close(self) -> None:
        """Give the connection back to the system."""
        ...


class Command(ABC, Generic[R_co]):
    """Something to be written: data, and the way a group of its kind is stored at once.

    Attributes:
        lane: which lane it queues in.
        order: kinds with a lower number come first within a unit of work.
        weight: how much of a unit of work it fills, see `writer.CAPACITY`.
        answer_s: how long its caller waits, seconds; whether it was stored is not known then.
    """

    lane: ClassVar[Lane]
    order: ClassVar[int] = 9
    weight: ClassVar[int] = 1
    answer_s: ClassVar[float] = 60.0

    @classmethod
    @abstractmethod
    def write_many(cls, tx: Writes, commands: Sequence[Any]) -> Sequence[R_co | HoldfastError]:
        """Store a group of this class; one result per command, in their order.

        A returned error goes to its caller and must leave nothing written for that command. A
        raised one undoes the group, whose commands are then tried one by one.
        """


class Query(ABC, Generic[R_co]):
    """Something to be read.

    Attributes:
        snapshot: whether its statements must all see the same state.
    """

    snapshot: ClassVar[bool] = False

    @abstractmethod
    def run(self, db: Reads) -> R_co:
        """Ask and return domain objects."""


class Backend(ABC):
    """One kind of database.

    Attributes:
        lanes_apart: whether several units of work can make progress side by side.
    """

    lanes_apart: ClassVar[bool]

    @abstractmethod
    def open_writes(self) -> WriteConnection:
        """A new connection for one lane; called on the thread that will use it."""

    @abstractmethod
    def open_reads(self) -> ReadConnection:
        """A new connection that cannot write."""

    @abstractmethod
    def close(self) -> None:
        """Free what the backend itself holds, after all connections are closed."""
