"""`holdfast keys`: who may come in, and what they may do."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.keys import Scope
from holdfast.errors import HubUnreachable, StoreLocked

from .door import Json, Url, key_at_hand, run

if TYPE_CHECKING:
    from holdfast.settings import Settings
    from holdfast.store import Store

app = typer.Typer(help="Make, list and take back API keys.", no_args_is_help=True)

View = dict[str, Any]

_SPAN = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    owner: Annotated[
        str, typer.Option(help="Whose things it opens; made with their first key.")
    ] = LOCAL_OWNER,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it is good for; may be given again. Default: read and write."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it ends: 12h, 30d, 8w, or 2027-01-31T12:00:00Z."),
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a key and write it to standard output; it cannot be shown again."""
    from .terminal import tell, write_json

    scopes = scope or [Scope.READ, Scope.WRITE]
    ends = None if expires is None else _end(expires)

    async def work() -> View:
        async with _keys(url, make=True) as keys:
            return await keys.create_key(name, owner=owner, scopes=scopes, expires_at=ends)

    made = run(work())
    if as_json:
        write_json(made)
        return
    typer.echo(made["key"])
    tell(f"{made['name']}: {', '.join(made['scopes'])} for {made['owner']}; id {made['id']}")
    tell("This is the only time it is shown. Clients take it from HOLDFAST_KEY.", "dim")


@app.command("list")
def list_keys(url: Url = None, as_json: Json = False) -> None:
    """List the keys of all owners, never their secrets."""
    from .terminal import columns, show, write_json

    async def work() -> View:
        async with _keys(url) as keys:
            return await keys.keys()

    answer = run(work())
    if as_json:
        write_json(answer)
        return
    from .tables import keys_table

    show(keys_table(answer["items"], columns()))


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id or its prefix.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Take a key back for good."""
    from .terminal import tell, write_json

    async def work() -> View:
        async with _keys(url) as keys:
            return await keys.revoke_key(key)

    gone = run(work())
    if as_json:
        write_json(gone)
    else:
        tell(f"{gone['name']} ({gone['prefix']}) opens nothing any more.")


class _Keys(Protocol):
    """What a hub's client and the store itself can both do."""

    async def create_key(
        self, name: str, *, owner: str, scopes: list[Scope], expires_at: datetime | None = None
    ) -> View: ...

    async def keys(self) -> View: ...

    async def revoke_key(self, key_id: str) -> View: ...


class _Stored:
    """Keys in the store itself: for whoever may open it, and for the first one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create_key(
        self, name: str, *, owner: str, scopes: list[Scope], expires_at: datetime | None = None
    ) -> View:
        from holdfast.operations.keys import create_key, key_view
        from holdfast.operations.views import microseconds

        key, secret = await create_key(
            self._store,
            name=name,
            owner=owner,
            scopes=scopes,
            expires_at=microseconds(expires_at),
        )
        return {**key_view(key), "key": secret}

    async def keys(self) -> View:
        from holdfast.operations.keys import all_keys, key_view

        return {"items": [key_view(key) for key in await all_keys(self._store)]}

    async def revoke_key(self, key_id: str) -> View:
        from holdfast.operations.keys import key_view, revoke_key

        return key_view(await revoke_key(self._store, key_id))


@asynccontextmanager
async def _keys(url: str | None, *, make: bool = False) -> AsyncGenerator[_Keys]:
    """The keys through the hub where there is a key for it, else in the store itself.

    Raises:
        HubUnreachable: no hub answers at `url`.
        StoreLocked: no key is at hand, and a hub holds the store.
    """
    from holdfast.client import Client
    from holdfast.settings import load

    settings = load()
    key = key_at_hand(settings)
    if url is not None or key is not None:
        async with Client(url or settings.url, key=key) as client:
            try:
                await client.health()
            except HubUnreachable:
                if url is not None:
                    raise
            else:
                yield client
                return
    store = _open(settings, make=make)
    try:
        yield _Stored(store)
    finally:
        await store.close()


def _open(settings: Settings, *, make: bool) -> Store:
    from holdfast.store import migrations
    from holdfast.store.registry import open_store

    if make and migrations.current(settings.store_url) is None:
        migrations.upgrade(settings.store_url)
    try:
        return open_store(settings.store_url, home=settings.home)
    except StoreLocked as error:
        raise StoreLocked(
            error.message,
            hint="ask that hub with a key of scope admin (HOLDFAST_KEY or --key-file), or stop it",
        ) from error


def _end(text: str) -> datetime:
    found = _SPAN.fullmatch(text)
    try:
        if found is not None:
            return datetime.now(UTC) + int(found["count"]) * _UNITS[found["unit"]]
        end = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"--expires: {text} is no time; say 30d or 2027-01-31T12:00:00Z"
        ) from None
    if end.tzinfo is None:
        raise typer.BadParameter(f"--expires: {text} has no time zone; add Z for UTC")
    return end.astimezone(UTC)
