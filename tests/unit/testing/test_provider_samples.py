"""What a fake provider that nobody scripted answers."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from holdfast.testing.providers import FakeRequest, fitting
from holdfast.testing.providers.samples import sample


class Kind(Enum):
    QUESTION = "question"


class Node(BaseModel):
    name: str = Field(max_length=2)
    inner: list[Node] = []


class Everything(BaseModel):
    kind: Kind
    level: Literal["low", "high"]
    score: float = Field(gt=0, le=1)
    below: int = Field(lt=-3)
    at_most: int = Field(le=-3)
    sure: bool
    node: Node
    maybe: str | None
    names: list[str] = Field(min_length=2)


def test_a_sample_fits_its_schema():
    schema = Everything.model_json_schema()
    Everything.model_validate(sample(schema, schema))


def test_a_schema_that_holds_itself_comes_to_an_end():
    schema = {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}},
    }
    schema["$defs"]["A"]["minItems"] = 1
    assert str(sample(schema, schema)).startswith("[[")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "This is a fake answer."),
        ({"format": "json"}, "This is a fake answer."),
        ({"format": {"type": "array"}}, "[]"),
        ({"generationConfig": {"responseJsonSchema": {"const": "x"}}}, '"x"'),
    ],
)
def test_the_schema_is_found_in_the_request(body, text):
    assert fitting(FakeRequest(path="/", headers={}, body=body, request_id="1")).text == text
