"""`holdfast usage` and `holdfast budgets`: what was spent, and how much may be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.errors import InvalidInput

from .door import Json, Url, open_client, run

if TYPE_CHECKING:
    from holdfast.client import Client

app = typer.Typer(help="Limit what may be spent.", no_args_is_help=True)

Day = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day, in UTC.", metavar="DAY")
]


def usage(
    by: Annotated[str, typer.Option(help="owner, pipeline, agent, model, day or alias.")] = "day",
    since: Day = None,
    until: Day = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Sum up the tokens, dollars and credits of what has been stored."""
    from .terminal import show, tell, write_json

    first, last = (None if one is None else one.date() for one in (since, until))
    view = _ask(url, lambda client: client.usage(by=by, since=first, until=last))
    if as_json:
        write_json(view)
        return
    if not view["items"]:
        tell("Nothing was used.")
        return
    from .tables import usage_table

    show(usage_table(view))


def estimate(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="By name.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The event's data, as JSON.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Estimate what one execution takes, from its prompts and from past executions."""
    import orjson

    from .terminal import show, tell, write_json

    try:
        data = orjson.loads(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{file} is not JSON: {error}") from None
    view = _ask(url, lambda client: client.estimate(pipeline, data))
    if as_json:
        write_json(view)
        return
    from .tables import estimate_table

    tell(f"An estimate, from {view['executions']} past executions of version {view['version']}.")
    show(estimate_table(view))
    for one in view["prompts"]:
        known = "needs earlier results" if one["tokens"] is None else f"~{one['tokens']:,} tokens"
        tell(f"prompt of {one['node']} ({one['alias']}): {known}")


@app.command("list")
def list_budgets(url: Url = None, as_json: Json = False) -> None:
    """List budgets, with what is spent of each and set aside for calls under way."""
    from .terminal import show, tell, write_json

    view = _ask(url, lambda client: client.budgets())
    if as_json:
        write_json(view)
        return
    if not view["items"]:
        tell("There are no budgets.")
        return
    from .tables import budgets_table

    show(budgets_table(view["items"]))


@app.command("set")
def set_budget(
    scope: Annotated[
        str,
        typer.Argument(metavar="SCOPE", help="owner, pipeline, agent, session or execution."),
    ],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="Whole tokens or credits, or dollars.")
    ],
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="tokens, usd or credits.")],
    subject: Annotated[
        str,
        typer.Option("--of", metavar="NAME", help="Which one; '*': each of them has its own."),
    ] = "",
    period: Annotated[
        str, typer.Option("--per", metavar="PERIOD", help="day, month or ever.")
    ] = "ever",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Set a budget, or another amount for the one with the same other words."""
    from .terminal import tell, write_json

    view = _ask(
        url,
        lambda client: client.set_budget(
            scope, unit=unit, amount=amount, subject=subject, period=period
        ),
        read_only=False,
    )
    if as_json:
        write_json(view)
    else:
        tell(f"{view['title']}: {view['amount']} {view['unit']}. Its id is {view['id']}.")


@app.command("remove")
def remove_budget(
    budget: Annotated[str, typer.Argument(metavar="ID", help="A budget, as `list` shows it.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Remove a budget; what was spent stays in the ledger."""
    from .terminal import tell, write_json

    answer = _ask(url, lambda client: client.remove_budget(budget), read_only=False)
    if as_json:
        write_json(answer)
    else:
        tell("It is gone.")


def _ask(
    url: str | None, ask: Callable[[Client], Awaitable[Any]], *, read_only: bool = True
) -> Any:
    async def work() -> Any:
        async with open_client(url, read_only=read_only) as client:
            return await ask(client)

    return run(work())
