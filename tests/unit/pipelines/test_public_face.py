"""What `import holdfast` gives, and what it must not cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

import holdfast


def test_importing_holdfast_imports_nothing_heavy():
    code = """
import sys, holdfast
heavy = [n for n in ("langgraph", "langchain_core", "pydantic", "jinja2") if n in sys.modules]
assert not heavy, heavy
assert "Pipeline" in dir(holdfast)
assert "langgraph" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", holdfast.__all__)
def test_every_public_name_resolves(name):
    assert getattr(holdfast, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Pipelines'"):
        _ = holdfast.Pipelines
