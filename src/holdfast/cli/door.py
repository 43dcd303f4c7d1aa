"""The one way to a client: the running hub over HTTP, else the store itself.

Also the one place where the command line enters asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from holdfast.errors import HubUnreachable, InvalidInput
from holdfast.imports import kept_imports

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from holdfast.client import Client
    from holdfast.settings import Settings

R = TypeVar("R")

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Address of the hub. Without it: the one of the settings, and where none answers "
        "there, the store itself.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Write JSON to standard output, and nothing else.")
]

key_file: ContextVar[Path | None] = ContextVar("key_file", default=None)
"""What `--key-file` named, for the command under way."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run(work: Coroutine[Any, Any, R], *, long: bool = False) -> R:
    """Run a command's work in an event loop of its own.

    Args:
        work: what to run.
        long: it serves requests: worth the faster loop, where that is installed.
    """
    try:
        with asyncio.Runner(loop_factory=_faster_loop() if long else None) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _faster_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # the extra `speed`
        return None
    return uvloop.new_event_loop


def key_at_hand(settings: Settings) -> str | None:
    """The API key to show: of `--key-file`, else of the settings.

    Raises:
        InvalidInput: the file cannot be read.
    """
    file = key_file.get()
    if file is None:
        return settings.key
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--key-file: {file} cannot be read: {error}") from error


@asynccontextmanager
async def open_client(url: str | None, *, read_only: bool = True) -> AsyncGenerator[Client]:
    """A client of the hub at `url`, of the one the settings name, or of the store itself.

    Args:
        url: only that hub will do.
        read_only: nothing will be submitted or cancelled, so that a store can be opened beside
            a hub and without runners.

    Raises:
        HubUnreachable: no hub answers at `url`.
        StoreLocked: no hub answers, but one holds the store.
    """
    with kept_imports():
        from holdfast.client import Client
        from holdfast.settings import load

    settings = load()
    key = key_at_hand(settings)
    if url is not None:
        async with Client(url, key=key) as client:
            yield client
        return

    async with Client(settings.url, key=key) as client:
        try:
            await client.health()
        except HubUnreachable:
            pass
        else:
            yield client
            return

    with kept_imports():
        from holdfast.client.local import connect
    from holdfast.telemetry import configure_logging

    from .terminal import tell

    configure_logging("warning", form=settings.log_form)
    if not read_only:
        tell(f"No hub answers at {settings.url}: this command opens the store itself.", "dim")
    async with connect(settings, read_only=read_only) as client:
        yield client


class Background:
    """A client whose event loop runs in a thread of its own, while this one waits for a person."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal = portal
        self._client = client

    def call(self, work: Callable[[Client], Awaitable[R]]) -> R:
        """Run something with the client; Ctrl-C calls it off."""
        under_way = self._portal.start_task_soon(work, self._client)
        try:
            return under_way.result()
        except KeyboardInterrupt:
            under_way.cancel()
            raise


@contextmanager
def in_background(url: str | None) -> Generator[Background]:
    """What `open_client` opens, for commands that read from a terminal in between."""
    from anyio.from_thread import start_blocking_portal

    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(open_client(url, read_only=False)) as client,
    ):
        yield Background(portal, client)
