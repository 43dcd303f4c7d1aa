"""An execution as a test: a fixture, and the few lines that run it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson

from holdfast.errors import InvalidInput

from .executions import write_whole

_TEST = '''\
"""{name} does what execution {id} did: offline, with the recorded answers."""

from pathlib import Path

from holdfast.testing import replayed

FIXTURE = Path(__file__).with_name("{fixture}")


def test_{title}() -> None:
    replayed("{app}", FIXTURE)
'''


def write_test(folder: Path, fixture: dict[str, Any]) -> list[Path]:
    """Write a fixture and its test into a folder; an earlier export of the execution is replaced.

    Raises:
        InvalidInput: nobody knows where the pipeline is declared, or it cannot be written there.
    """
    recorded = fixture["recorded"]
    name, id_ = recorded["name"], recorded["execution_id"]
    if fixture["app"] is None:
        raise InvalidInput(
            f"it is not known where {name} is declared", hint="name its app: HOLDFAST_APPS=module"
        )
    title = f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}_{id_[-12:]}"
    data, test = folder / f"{title}.json", folder / f"test_{title}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be made: {error.strerror}") from error
    write_whole(data, orjson.dumps(fixture, option=orjson.OPT_INDENT_2) + b"\n")
    text = _TEST.format(name=name, id=id_, title=title, app=fixture["app"], fixture=data.name)
    write_whole(test, text.encode())
    return [data, test]
