"""Imports that are not looked through for garbage; everything after them is, again."""

from __future__ import annotations

import gc

import pytest

from holdfast.imports import kept_imports


def test_what_is_imported_is_left_out_and_the_rest_is_not() -> None:
    before = gc.get_freeze_count()
    try:
        with kept_imports():
            assert not gc.isenabled()
            kept = [[] for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(kept)
    finally:
        gc.unfreeze()


def test_a_failed_import_leaves_no_process_that_never_collects() -> None:
    with pytest.raises(ImportError), kept_imports():
        raise ImportError
    assert gc.isenabled()
