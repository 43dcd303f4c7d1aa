"""A proxy before PostgreSQL that a test can cut, let hang and mend."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from sqlalchemy.engine import make_url


class PostgresProxy:
    """`async with PostgresProxy(url) as proxy:` and give `proxy.url` to a hub."""

    def __init__(self, url: str) -> None:
        self._to = make_url(url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._pipes: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def url(self) -> str:
        through = self._to.set(host="127.0.0.1", port=self._port, query={})
        return through.render_as_string(hide_password=False)

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Break all connections and take no new ones, as a server that is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for pipe in self._pipes:
            pipe.cancel()
        if self._pipes:
            await asyncio.wait(self._pipes)

    def hang(self) -> None:
        """Take everything and pass nothing on, as a server that is stopped."""
        self._flows.clear()

    async def mend(self) -> None:
        """As if nothing had been."""
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        there_writer = None
        try:
            folder = self._to.query.get("host")
            if isinstance(folder, str) and folder.startswith("/"):
                path = f"{folder}/.s.PGSQL.{self._to.port or 5432}"
                there_reader, there_writer = await asyncio.open_unix_connection(path)
            else:
                there_reader, there_writer = await asyncio.open_connection(
                    self._to.host, self._to.port or 5432
                )
            await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pipes.discard(task)
            for end in (writer, there_writer):
                if end is not None:
                    end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            await self._flows.wait()
            writer.write(piece)
            await writer.drain()
        raise ConnectionResetError
