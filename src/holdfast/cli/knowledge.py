"""`holdfast knowledge`: documents added, listed, searched and removed."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from holdfast.errors import InvalidInput

from .door import Json, Url, open_client, run

if TYPE_CHECKING:
    from holdfast.client import Client

app = typer.Typer(help="Keep documents and search them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="COLLECTION", help="A collection.")]


@app.command("list")
def list_knowledge(
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLLECTION]", help="Its documents; else collections.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List collections, or the documents of one."""
    from .terminal import columns, show, tell, write_json

    async def documents(client: Client) -> list[Any]:
        await client.collection(str(collection))  # says so when there is none
        return [one async for one in client.documents(str(collection))]

    async def collections(client: Client) -> list[Any]:
        return (await client.collections())["items"]

    items = _ask(url, collections if collection is None else documents)
    if as_json:
        write_json({"items": items})
        return
    if not items:
        tell("There are no collections." if collection is None else "It is empty.")
        return
    from .tables import collections_table, documents_table

    drawn = collections_table if collection is None else documents_table
    show(drawn(items, columns()))


@app.command()
def add(
    collection: Name,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Text files; - for standard input.")
    ],
    key: Annotated[
        str | None, typer.Option("--key", help="Of the document; by default the file's name.")
    ] = None,
    metadata: Annotated[
        str, typer.Option("--metadata", help="JSON object that filters look at.")
    ] = "{}",
    embedding: Annotated[
        str | None, typer.Option("--embedding", help="Alias; by default the collection's own.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Add documents, or put them in the place of those of the same keys."""
    from .terminal import tell, write_json

    if key is not None and len(files) > 1:
        raise InvalidInput("--key names one document, but there are several files")
    facts = _object("--metadata", metadata)
    texts = {key or str(file): _text(file) for file in files}

    async def put(client: Client) -> list[Any]:
        return [
            await client.put_document(collection, name, text, metadata=facts, embedding=embedding)
            for name, text in texts.items()
        ]

    done = _ask(url, put, read_only=False)
    if as_json:
        write_json({"items": done})
        return
    for one in done:
        what = "embedded" if one["embedded"] else "there already"
        tell(f"{one['key']}: {one['chunks']} chunks, {what}")


@app.command()
def search(
    collection: Name,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words, or a question.")],
    mode: Annotated[str, typer.Option("--mode", help="hybrid, semantic or keyword.")] = "hybrid",
    limit: Annotated[int, typer.Option("--limit", help="Most hits.")] = 5,
    filters: Annotated[
        str, typer.Option("--filter", help='JSON: \'{"lang": "de", "year": {"gte": 2020}}\'.')
    ] = "{}",
    min_score: Annotated[
        float | None, typer.Option("--min-score", help="Least similarity, -1 to 1.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Search a collection; the best hits come first."""
    from .terminal import columns, show, tell, write_json

    options: dict[str, Any] = {
        "mode": mode,
        "limit": limit,
        "filters": _object("--filter", filters),
    }
    if min_score is not None:
        options["min_score"] = min_score
    found = _ask(url, lambda client: client.search(collection, query, **options))
    if as_json:
        write_json(found)
        return
    if not found["items"]:
        tell("Nothing was found.")
        return
    from .tables import hits_table

    show(hits_table(found["items"], columns()))


@app.command()
def remove(
    collection: Name,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="A document; else --all of them.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The collection with all its documents.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Remove a document, or a whole collection."""
    from .terminal import tell, write_json

    if (key is None) is not everything:
        raise InvalidInput("name a document, or say --all to remove the collection")
    answer = _ask(
        url,
        lambda client: (
            client.delete_collection(collection)
            if key is None
            else client.delete_document(collection, key)
        ),
        read_only=False,
    )
    if as_json:
        write_json(answer)
    else:
        tell("It is gone.")


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read as text: {error}") from error


def _object(option: str, given: str) -> dict[str, Any]:
    import orjson

    try:
        found = orjson.loads(given)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{option} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{option} is no JSON object")
    return cast("dict[str, Any]", found)


def _ask(
    url: str | None, ask: Callable[[Client], Awaitable[Any]], *, read_only: bool = True
) -> Any:
    async def work() -> Any:
        async with open_client(url, read_only=read_only) as client:
            return await ask(client)

    return run(work())
