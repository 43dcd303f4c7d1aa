"""The example of docs/models.md runs as it stands."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from holdfast.llm.aliases import FIELDS
from holdfast.llm.factory import Models
from holdfast.llm.failures import classify
from holdfast.ports import ModelConfig
from holdfast.settings import load

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
    (example,) = (one for one in EXAMPLES if "FakeAnthropic" in one)
    assert "    ...  # an alias with base_url=server.url\n" in example
    body = example.replace("    ...  #", "    await ask_twice(server.url)  #")
    names = {"ask_twice": ask_twice}
    exec(f"async def main():\n{textwrap.indent(body, '    ')}", names)
    await names["main"]()


def test_the_file(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "models.yaml"
    file.write_text(example)
    keys = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    aliases = load(environ={**keys, "HOLDFAST_MODELS_FILE": str(file)}).model_configs()
    assert aliases["steady"].fallbacks == ("elsewhere", "fast")
    fields = {
        name
        for alias in yaml.safe_load(example).values()
        if isinstance(alias, dict)
        for name in alias
    }
    told = set(re.findall(r"^\| `(.*?)` \|", TEXT, re.MULTILINE))
    named = {name for row in told for name in row.split("`, `")}
    assert set(FIELDS) - {"model", "base_url", "api_key", "parameters"} <= named & fields


async def test_what_a_pipeline_changes():
    (example,) = (one for one in EXAMPLES if "models={" in one)
    names = {}
    exec(example, names)
    names["letters"].check()
    configs = {
        alias: ModelConfig(alias=alias, provider="openai", model="x", base_url="http://127.0.0.1:9")
        for alias in ("fast", "expert")
    }
    models = Models(configs)
    for node, alias, tokens in (("kind", "fast", 1024), ("reply", "expert", 500)):
        made = names[node]
        chat = models.chat(made.alias, change=made.change)
        assert (chat.alias, chat.parameters["max_tokens"]) == (alias, tokens)
    await models.aclose()
