"""Whether a RabbitMQ can be reached by tests; it is too large to be brought along."""

from __future__ import annotations

from kombu.connection import Connection

USUAL = "amqp://guest:guest@127.0.0.1:5672//"
"""Where one is looked for when none is named."""


def unreachable(url: str) -> str | None:
    """Why no broker answers at the address; None when one does."""
    try:
        with Connection(url, connect_timeout=5) as connection:
            connection.ensure_connection(max_retries=1)
    except Exception as error:  # noqa: BLE001 - the reason is what was asked for
        return f"{type(error).__name__}: {error}"
    return None
