"""Questions about keys, across owners: for the hub, which knows by them who is asking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from holdfast.domain.keys import ApiKey, Scope
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement
from holdfast.store.tables import api_keys, users

_COLUMNS = (
    api_keys.c.id,
    api_keys.c.owner_id,
    users.c.name.label("owner"),
    users.c.disabled_at.label("owner_disabled_at"),
    api_keys.c.name,
    api_keys.c.prefix,
    api_keys.c.hash,
    api_keys.c.created_at,
    api_keys.c.last_used_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
    api_keys.c.scopes,
)

_WHOLE = select(*_COLUMNS).join(users, users.c.id == api_keys.c.owner_id)

_ALL = Statement(_WHOLE.order_by(api_keys.c.id.desc()))

BY_ID_OR_PREFIX = Statement(
    _WHOLE.where((api_keys.c.id == bindparam("of")) | (api_keys.c.prefix == bindparam("of")))
)


def key_item(row: Sequence[Any]) -> ApiKey:
    """A key out of a row of `BY_ID_OR_PREFIX`."""
    *values, scopes = row
    names = [column.name for column in _COLUMNS[:-1]]
    fields = dict(zip(names, values, strict=True))
    return ApiKey(**fields, scopes=tuple(Scope(word) for word in scopes.split()))


@dataclass(frozen=True, slots=True)
class AllKeys(Query[list[ApiKey]]):
    """Every key of every owner, newest first, revoked ones too."""

    def run(self, db: Reads) -> list[ApiKey]:
        """Ask for all."""
        return [key_item(row) for row in db.rows(_ALL, {})]
