"""What a pipeline, or a node of it, wants otherwise than the settings' aliases say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from holdfast.errors import DeclarationError
from holdfast.pipelines.pipeline import Pipeline


class Job(BaseModel):
    text: str = ""


def asking(models: Any = None, **options: Any) -> Pipeline:
    p = Pipeline("test.asks", version="1", event=Job, scripted=lambda _: "by rule", models=models)
    p.start(p.model("ask", prompt="{{ event.text }}", **options))
    return p


async def test_a_name_of_its_own_stands_for_an_alias(run: Any) -> None:
    ran = await run(asking({"mine": {"alias": "fast", "retries": 2}}, alias="mine"), {})
    assert ran.output == "by rule"
    ran = await run(asking({"mine": "fast"}, alias="mine"), {})
    assert ran.output == "by rule"


async def test_a_name_that_nobody_knows_fails_with_the_known_ones(run: Any) -> None:
    ran = await run(asking(alias="mine"), {})
    assert "no model alias 'mine'" in str(ran.error)
    ran = await run(asking({"fast": {"fallbacks": ["nobody"]}}, alias="fast"), {})
    assert "no model alias 'nobody'" in str(ran.error)


async def test_parameters_that_a_provider_does_not_have_are_refused(run: Any) -> None:
    ran = await run(asking(alias="fast", parameters={"warmth": 1}), {})
    assert "scripted has no parameter 'warmth'" in str(ran.error)
    assert 'node "ask"' in str(ran.error)


def test_a_change_is_part_of_the_code() -> None:
    versions = {
        asking(alias="fast").code_version,
        asking(alias="fast", parameters={"temperature": 1}).code_version,
        asking({"fast": {"retries": 1}}, alias="fast").code_version,
    }
    assert len(versions) == 3


@pytest.mark.parametrize(
    "spec", [3, {"modle": "x"}, {"base_url": "http://x"}, {"retries": -1}, {"alias": 3}]
)
def test_what_cannot_be_meant_is_refused_where_it_stands(spec: Any) -> None:
    with pytest.raises(DeclarationError, match="pipeline test.asks: models, 'fast'"):
        asking({"fast": spec})
