"""The form of keys, and when they are good."""

from __future__ import annotations

import re

import pytest

from holdfast.domain.keys import NEEDS, ApiKey, Scope, digest, new_secret, prefix_of, same


def key(**fields: object) -> ApiKey:
    values: dict[str, object] = {
        "id": "1",
        "name": "ci",
        "prefix": "abcdefgh",
        "hash": digest("hf_x"),
        "scopes": (Scope.READ,),
        "expires_at": None,
        "owner_id": "o",
        "owner": "team",
        "owner_disabled_at": None,
        "created_at": 1,
        "last_used_at": None,
        "revoked_at": None,
    }
    return ApiKey(**(values | fields))  # type: ignore[arg-type]


def test_a_new_key_has_its_form_and_is_never_made_twice() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for one in made:
        assert re.fullmatch(r"hf_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}", one)
        assert prefix_of(one) == one[3:11]


@pytest.mark.parametrize("cut", [slice(1, None), slice(0, -1), slice(0, 11)])
def test_what_has_not_the_form_has_no_prefix(cut: slice) -> None:
    whole = new_secret()
    assert prefix_of(whole[cut]) is None
    assert prefix_of(whole + "\n") is None
    assert prefix_of(whole.replace(whole[-1], "é")) is None


def test_only_the_whole_key_is_the_same() -> None:
    one, other = new_secret(), new_secret()
    assert same(one, digest(one))
    assert not same(other, digest(one))
    assert not same(one[:11] + other[11:], digest(one))


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({}, True),
        ({"expires_at": 11}, True),
        ({"expires_at": 10}, False),
        ({"revoked_at": 9}, False),
        ({"owner_disabled_at": 9}, False),
    ],
)
def test_when_a_key_is_good(fields: dict[str, int], good: bool) -> None:
    assert key(**fields).good(10) is good


def test_a_key_does_not_show_its_hash() -> None:
    assert digest("hf_x") not in repr(key())


def test_looking_and_changing_and_managing_are_apart() -> None:
    assert NEEDS["look"] is Scope.READ
    managing = {"agents", "keys", "hubs", "breakers", "budgets"}
    assert {NEEDS[verb] for verb in managing} == {Scope.ADMIN}
    assert {NEEDS[verb] for verb in NEEDS.keys() - {"look", *managing}} == {Scope.WRITE}
