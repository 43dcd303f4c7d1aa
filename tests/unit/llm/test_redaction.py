"""What no record keeps: rules, and what they take out of a text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.errors import SettingsError
from holdfast.llm.content.redaction import Redactor, read_redactions
from holdfast.settings import load

PAGE = (Path(__file__).parents[3] / "docs" / "checks.md").read_text()


def redactor(*rules: dict[str, object], begin: str = "") -> Redactor:
    return Redactor(read_redactions(list(rules), "HOLDFAST_REDACT"), begin)


def test_the_same_text_has_the_same_placeholder() -> None:
    redact = redactor({"check": "personal"})
    assert redact("a@x.de, b@x.de") == "⟦e-mail 1⟧, ⟦e-mail 2⟧"
    assert redact("b@x.de") == "⟦e-mail 2⟧"
    assert redact.counts == {"e-mail": 2}


def test_a_later_part_numbers_anew() -> None:
    assert redactor({"check": "personal"}, begin="7.")("a@x.de") == "⟦e-mail 7.1⟧"


def test_own_patterns_and_kinds() -> None:
    redact = redactor(
        {"pattern": "K-[0-9]{6}", "kind": "customer"}, {"check": "personal", "kinds": ["IBAN"]}
    )
    assert redact("K-123456 a@x.de DE89370400440532013000") == "⟦customer 1⟧ a@x.de ⟦IBAN 1⟧"


def test_findings_that_overlap_are_one() -> None:
    redact = redactor({"check": "personal"}, {"pattern": "x\\.de, .*", "kind": "rest"})
    assert redact("to a@x.de, now") == "to ⟦e-mail 1⟧"


def test_what_was_redacted_stays_as_it_is() -> None:
    redact = redactor({"pattern": "[0-9]+", "kind": "number"})
    once = redact("room 12")
    assert once == "room ⟦number 1⟧"
    assert redact(f"{once} and 7") == "room ⟦number 1⟧ and ⟦number 2⟧"


def test_a_check_that_fails_lets_nothing_through() -> None:
    faults: list[str] = []
    rules = read_redactions([{"check": "tests.apps.checks_app:broken"}], "HOLDFAST_REDACT")
    redact = Redactor(rules, on_fault=lambda where, fault: faults.append(f"{where} {fault!r}"))
    assert redact("anything") == "⟦not recorded, a check failed 1⟧"
    assert faults == ["redaction KeyError(8)"]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ('{"check": "personal"}', "a valid list"),
        ('["personal"]', "rule 1: an object is expected"),
        ('[{"check": "personal"}, {"chek": "x"}]', "rule 2: unknown field 'chek'"),
        ('[{"kinds": ["IBAN"]}]', "rule 1: it names a check or a pattern"),
        ('[{"check": "personal", "pattern": "x"}]', "rule 1: it names a check or a pattern"),
        ('[{"check": "personal", "kind": "x"}]', "kind is what a pattern finds"),
        ('[{"check": "personal", "kinds": "IBAN"}]', "kinds is a list of names"),
        ('[{"check": "injection"}]', "injection cannot redact"),
        ('[{"check": "nobody"}]', "nobody"),
        ('[{"check": 7}]', "check is a name"),
        ('[{"pattern": "x"}]', "kind says what the pattern finds"),
        ('[{"pattern": "x", "kind": "a⟧"}]', "kind says what the pattern finds"),
        ('[{"pattern": "x", "kind": "k", "kinds": ["k"]}]', "kinds narrows a check"),
        ('[{"pattern": "(", "kind": "k"}]', "pattern: missing )"),
        ('[{"pattern": "x*", "kind": "k"}]', "matches an empty text"),
        ('[{"pattern": 7, "kind": "k"}]', "pattern is a regular expression"),
    ],
)
def test_a_wrong_rule_stops_the_start(rules: str, says: str) -> None:
    with pytest.raises(SettingsError, match="HOLDFAST_REDACT") as caught:
        load(environ={"HOLDFAST_REDACT": rules}).redactions()
    assert says in caught.value.message


def test_rules_travel_as_they_are_written() -> None:
    (example,) = re.findall(r"HOLDFAST_REDACT='(.*?)'", PAGE, re.DOTALL)
    rules = load(environ={"HOLDFAST_REDACT": example}).redactions()
    assert len(rules) == 3
    assert read_redactions([one.plain() for one in rules], "x") == rules


def test_unset_nothing_is_taken_out() -> None:
    assert load(environ={}).redactions() == ()
