"""`holdfast hubs`: who shares the database."""

from __future__ import annotations

from typing import Any

from .door import Json, Url, open_client, run


def hubs(url: Url = None, as_json: Json = False) -> None:
    """List the hubs that share the database; needs a key that may administrate."""
    from .terminal import columns, show, write_json

    async def work() -> dict[str, Any]:
        async with open_client(url) as client:
            return await client.hubs()

    answer = run(work())
    if as_json:
        write_json(answer)
        return
    from .tables import hubs_table

    show(hubs_table(answer["items"], columns()))
