"""The example of docs/models.md runs as it stands."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from holdfast.llm.factory import Models
from holdfast.llm.failures import classify
from holdfast.ports import ModelConfig

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


async def ask_twice(url):
    config = ModelConfig(alias="a", provider="anthropic", model="claude-haiku-4-5", base_url=url)
    models = Models({"a": config})
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await models.chat("a").model.ainvoke("hi")
    assert classify(caught.value).http_status == 529
    assert (await models.chat("a").model.ainvoke("hi")).text == "Hello"
    await models.aclose()


async def test_the_fakes():
    (example,) = EXAMPLES
    assert "    ...  # an alias with base_url=server.url\n" in example
    body = example.replace("    ...  #", "    await ask_twice(server.url)  #")
    names = {"ask_twice": ask_twice}
    exec(f"async def main():\n{textwrap.indent(body, '    ')}", names)
    await names["main"]()
