"""Making and taking back keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import new_id
from holdfast.domain.keys import ApiKey, NewKey
from holdfast.errors import HoldfastError, IllegalMove, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.queries.keys import BY_ID_OR_PREFIX, key_item
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import api_keys, users

_INSERT_USER = Insert(users, unless=Conflict(("name",)))
_USER = Statement(select(users.c.id, users.c.disabled_at).where(users.c.name == bindparam("name")))
_INSERT_KEY = Insert(api_keys)
_REVOKE = Statement(
    update(api_keys)
    .where(api_keys.c.id == bindparam("of"), api_keys.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("at"))
)
_TOUCH = Statement(
    update(api_keys).where(api_keys.c.id == bindparam("of")).values(last_used_at=bindparam("at"))
)


@dataclass(frozen=True, slots=True)
class CreateKey(Command[ApiKey]):
    """Store a key; its owner is made with the first one.

    Raises:
        IllegalMove: the owner is disabled.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 7
    key: NewKey
    owner: str  # the owner's name

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[ApiKey | HoldfastError]:
        """One by one; keys are rarely made."""
        return [cls._write(tx, command.key, command.owner) for command in commands]

    @classmethod
    def _write(cls, tx: Writes, key: NewKey, owner: str) -> ApiKey | HoldfastError:
        now = tx.now()
        # What a hub without keys took in belongs to `local` and shall stay within reach.
        user_id = LOCAL_OWNER if owner == LOCAL_OWNER else new_id()
        tx.insert(_INSERT_USER, [(user_id, owner, now, None)])
        ((owner_id, disabled_at),) = tx.rows(_USER, {"name": owner})
        if disabled_at is not None:
            return IllegalMove(f"the owner {owner} is disabled and gets no keys")
        scopes = " ".join(scope.value for scope in key.scopes)
        row = (key.id, owner_id, key.name, key.prefix, key.hash, scopes, now)
        tx.insert(_INSERT_KEY, [(*row, None, key.expires_at, None)])
        return ApiKey(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            hash=key.hash,
            scopes=key.scopes,
            expires_at=key.expires_at,
            owner_id=owner_id,
            owner=owner,
            owner_disabled_at=None,
            created_at=now,
            last_used_at=None,
            revoked_at=None,
        )


@dataclass(frozen=True, slots=True)
class RevokeKey(Command[ApiKey]):
    """Take a key back for good; one that was taken back before stays as it is.

    Raises:
        NotFound: no such key.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 8
    id: str  # or its prefix

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[ApiKey | HoldfastError]:
        """One by one; keys are rarely revoked."""
        return [cls._write(tx, command.id) for command in commands]

    @classmethod
    def _write(cls, tx: Writes, id: str) -> ApiKey | HoldfastError:  # noqa: A002
        for row in tx.rows(BY_ID_OR_PREFIX, {"of": id}):
            key = key_item(row)
            if not key.revoked:
                key = replace(key, revoked_at=tx.now())
                tx.change(_REVOKE, [{"of": key.id, "at": key.revoked_at}])
            return key
        return NotFound(f"there is no key {id!a}", hint="see: holdfast keys list")


@dataclass(frozen=True, slots=True)
class TouchKeys(Command[None]):
    """Note when keys were last used.

    Attributes:
        used: microseconds by key id.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 9
    used: Mapping[str, int]

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[None]:
        """All at once, in the order of ids so that two hubs never wait for each other."""
        used = {id_: at for command in commands for id_, at in command.used.items()}
        tx.change(_TOUCH, [{"of": id_, "at": used[id_]} for id_ in sorted(used)])
        return [None] * len(commands)
