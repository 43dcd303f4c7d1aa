"""Finds personal data: addresses, telephone, bank, card and tax numbers, by checksum where one is.

Sources: IBAN registry (ISO 13616, mod 97-10), Luhn (ISO/IEC 7812-1), German tax id (mod 11, 10).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .findings import Finding

# The look-behinds let a match begin only where a run of its characters begins: linear.
_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
_PHONE = re.compile(
    r"(?<![\w+])(?<!\d )(?:(?:\+|00)[1-9](?:[ ()./-]{0,3}\d){6,13}"
    r"|\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4})(?!\d)"
)
_CARD = re.compile(r"(?<![\d-])(?<![A-Z]{2}\d{2} )[2-6](?:[ -]?\d){12,18}(?!\d)")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?=[ ]?[A-Z0-9])")
_TAX = re.compile(r"(?<![\d])[1-9]\d(?: ?\d{3}){3}(?!\d)")
_TAX_WORDS = re.compile(r"(?i)steuer|idnr|id-nr|tin\b|tax")
_TAX_REACH = 60  # characters before a number within which one of the words stands

_IBAN_CHARS = {
    "AD": 24,
    "AE": 23,
    "AT": 20,
    "BE": 16,
    "BG": 22,
    "CH": 21,
    "CY": 28,
    "CZ": 24,
    "DE": 22,
    "DK": 18,
    "EE": 20,
    "ES": 24,
    "FI": 18,
    "FR": 27,
    "GB": 22,
    "GI": 23,
    "GR": 27,
    "HR": 21,
    "HU": 28,
    "IE": 22,
    "IL": 23,
    "IS": 26,
    "IT": 27,
    "LI": 21,
    "LT": 20,
    "LU": 20,
    "LV": 21,
    "MC": 27,
    "MT": 31,
    "NL": 18,
    "NO": 15,
    "PL": 28,
    "PT": 25,
    "RO": 24,
    "SA": 24,
    "SE": 24,
    "SI": 19,
    "SK": 24,
    "SM": 27,
    "TR": 26,
    "UA": 29,
}


def look(text: str) -> Iterator[Finding]:
    """Find personal data in a text."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Finding(kind="e-mail", start=match.start(), end=match.end())
    taken: list[tuple[int, int]] = []
    for kind, start, end in _numbers(text):
        # A bank number is no telephone number too.
        if taken and start < taken[-1][1]:
            continue
        taken.append((start, end))
        yield Finding(kind=kind, start=start, end=end)


def _numbers(text: str) -> list[tuple[str, int, int]]:
    found = [("IBAN", *span) for span in _ibans(text)]
    found += [
        ("card number", m.start(), m.end()) for m in _CARD.finditer(text) if luhn(_digits(m[0]))
    ]
    for match in _TAX.finditer(text):
        before = text[max(0, match.start() - _TAX_REACH) : match.start()]
        if german_tax_id(_digits(match[0])) and _TAX_WORDS.search(before):
            found.append(("tax id", match.start(), match.end()))
    found += [("telephone number", m.start(), m.end()) for m in _PHONE.finditer(text)]
    # By place; of two at one place the one whose checksum was proved stands first.
    return sorted(found, key=lambda one: one[1])


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        wanted = _IBAN_CHARS.get(match[0][:2])
        if wanted is None:
            continue
        end, number = match.end(), match[0]
        while len(number) < wanted and end < len(text):
            char = text[end]
            if char.isascii() and char.isalnum():
                number += char.upper()
            elif char != " " or text[end - 1] == " ":
                break
            end += 1
        follows = text[end : end + 1]
        whole = len(number) == wanted and not (follows.isascii() and follows.isalnum())
        if whole and iban(number):
            yield match.start(), end


def iban(number: str) -> bool:
    """Whether an IBAN without spaces passes its checksum."""
    turned = number[4:] + number[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def luhn(digits: str) -> bool:
    """Whether a card number passes its checksum."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def german_tax_id(digits: str) -> bool:
    """Whether the eleven digits of a German tax id pass their checksum."""
    product = 10
    for digit in digits[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isascii() and char.isdigit())
