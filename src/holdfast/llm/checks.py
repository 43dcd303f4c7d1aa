"""Cheap checks that flag suspicious text: they accuse nobody and decide nothing.

Every check is linear in the text: plain substring searches, and patterns without nested repeats.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_EXCERPT_CHARS = 80
_REACH_CHARS = 60  # how far behind its verb an object is looked for
_TRIES = 200  # occurrences of one verb looked at; keeps a text made of verbs linear

_INVISIBLE = "\u200b\u200c\u200d\u2060\u2062\u2063\u2064\ufeff\u00ad"
_LETTER = "A-Za-z\u00c0-\u024f\u0400-\u04ff"


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it came, and as it is searched."""

    raw: str
    plain: str  # compatibility forms folded, lower case, single spaces, nothing invisible

    @classmethod
    def of(cls, raw: str) -> Text:
        """Normalise a text once for all checks."""
        plain = raw
        if not raw.isascii():
            if not unicodedata.is_normalized("NFKC", raw):
                plain = unicodedata.normalize("NFKC", raw)
            for mark in _INVISIBLE:
                plain = plain.replace(mark, "")
        return cls(raw, " ".join(plain.lower().split()))


@dataclass(frozen=True, slots=True)
class Check:
    """A named check; `find` returns what it found, or None."""

    name: str
    find: Callable[[Text], str | None]


def suspicious(text: str, checks: Sequence[Check] | None = None) -> list[str]:
    """Why a text looks suspicious, one reason per check that found something.

    Args:
        text: anything a model may read.
        checks: other checks than `CHECKS`.

    Returns:
        Reasons such as `instruction override: ignore all previous instructions`; empty when
        nothing was found.
    """
    prepared = Text.of(text)
    reasons: list[str] = []
    for check in CHECKS if checks is None else checks:
        found = check.find(prepared)
        if found is not None:
            reasons.append(f"{check.name}: {found}")
    return reasons


@dataclass(frozen=True, slots=True)
class _Demand:
    """A verb followed, within a few words, by one of its objects."""

    verbs: tuple[str, ...]
    objects: tuple[str, ...]

    def find(self, text: Text) -> str | None:
        plain = text.plain
        if not any(thing in plain for thing in self.objects):
            return None
        for start, end in self._verbs(plain):
            window = plain[end : end + _REACH_CHARS]
            ends = [at + len(o) for o in self.objects if (at := window.find(o)) >= 0]
            if ends:
                return plain[start : end + min(ends)][:_EXCERPT_CHARS]
        return None

    def _verbs(self, plain: str) -> Iterator[tuple[int, int]]:
        for verb in self.verbs:
            at = plain.find(verb)
            for _ in range(_TRIES):
                if at < 0:
                    break
                yield at, at + len(verb)
                at = plain.find(verb, at + len(verb))


_OVERRIDES = (
    _Demand(  # English
        ("ignore", "disregard", "forget", "override", "do not follow", "don't follow", "bypass"),
        (
            "previous instruction",
            "prior instruction",
            "earlier instruction",
            "above instruction",
            "all instruction",
            "your instruction",
            "system instruction",
            "existing instruction",
            "instructions above",
            "instructions you were given",
            "instructions you have been given",
            "previous prompt",
            "system prompt",
            "your rules",
            "your guidelines",
            "previous rules",
            "everything above",
            "everything before this",
        ),
    ),
    _Demand(  # Russian
        ("игнорируй", "проигнорируй", "забудь", "не следуй", "отмени"),
        (
            "инструкци",
            "предыдущие указания",
            "предыдущих указаний",
            "системный промпт",
            "твои правила",
            "всё, что было выше",
        ),
    ),
    _Demand(  # German
        ("ignorier", "vergiss", "vergessen sie", "missachte", "befolge nicht"),
        ("anweisung", "instruktion", "systemprompt", "system-prompt", "deine regeln"),
    ),
    _Demand(  # Spanish, Portuguese, Italian, French
        ("ignora", "olvida", "esqueça", "desconsidere", "dimentica", "ignore", "oublie"),
        (
            "instrucciones anteriores",
            "instrucciones previas",
            "tus instrucciones",
            "instruções anteriores",
            "suas instruções",
            "istruzioni precedenti",
            "tue istruzioni",
            "instructions précédentes",
            "instructions antérieures",
            "tes instructions",
            "vos instructions",
            "les consignes",
        ),
    ),
    _Demand(  # Chinese, Japanese
        ("忽略", "无视", "忘记", "不要遵循", "無視"),
        ("指令", "提示词", "系统提示", "之前的指示", "指示"),
    ),
    _Demand(  # Japanese: the object comes first
        ("指示を", "命令を", "プロンプトを"), ("無視", "忘れて")
    ),
)

_ROLES = (
    _Demand(
        ("you are now", "act as", "pretend to be", "from now on you are", "switch to"),
        (
            "developer mode",
            "dan mode",
            "jailbreak",
            "unrestricted",
            "without restrictions",
            "no restrictions",
            "without any rules",
            "an ai without",
            "system administrator",
        ),
    ),
    _Demand(("теперь ты", "представь, что ты"), ("без ограничений", "администратор")),
    _Demand(("du bist jetzt", "ab jetzt bist du"), ("ohne einschränkung", "entwicklermodus")),
)

_SECRETS = (
    _Demand(
        (
            "reveal",
            "print",
            "show me",
            "repeat",
            "output",
            "send me",
            "tell me",
            "give me",
            "leak",
            "disclose",
            "forward",
        ),
        (
            "system prompt",
            "your prompt",
            "your instructions",
            "your initial instructions",
            "your api key",
            "the api key",
            "your secret",
            "your password",
            "your credentials",
            "environment variables",
            "access token",
        ),
    ),
    _Demand(
        ("покажи", "выведи", "раскрой", "пришли", "назови"),
        ("системный промпт", "свои инструкции", "твои инструкции", "api-ключ", "ключ api"),
    ),
    _Demand(
        ("zeig", "nenne", "verrate", "schick", "gib mir"),
        ("systemprompt", "system-prompt", "deine anweisungen", "api-schlüssel", "dein passwort"),
    ),
    _Demand(
        ("muestra", "revela", "dime", "affiche", "révèle", "montre", "mostra", "rivela"),
        (
            "prompt del sistema",
            "tus instrucciones",
            "clave de api",
            "prompt système",
            "tes instructions",
            "vos instructions",
            "clé api",
            "prompt di sistema",
            "tue istruzioni",
            "prompt do sistema",
            "suas instruções",
        ),
    ),
    _Demand(("显示", "告诉我", "输出", "透露"), ("系统提示", "提示词", "密钥", "你的指令")),
)

_TURN_MARKS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|assistant|>",
    "<|start_header_id|>",
    "<|endoftext|>",
    "[inst]",
    "[/inst]",
    "<<sys>>",
    "</system>",
    "<start_of_turn>",
    "### system:",
    "### instruction:",
)

_HIDING_STYLES = (
    "display:none",
    "visibility:hidden",
    "font-size:0;",
    "font-size:0px",
    "opacity:0;",
    "color:transparent",
)

_HIDDEN_LETTERS = re.compile(f"[{_LETTER}][\u200b\u200c\u200d\u2060\u2062-\u2064][{_LETTER}]")
_TAG_LETTERS = re.compile("(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]")
_REORDERING = re.compile("[\u202d\u202e]")
_LEAKING_IMAGE = re.compile(r"!\[[^\[\]\n]{0,200}\]\(https?://[^\s()?]{1,300}\?[^\s()]{1,500}\)")


def _any_of(demands: tuple[_Demand, ...]) -> Callable[[Text], str | None]:
    def find(text: Text) -> str | None:
        return next((f for f in (d.find(text) for d in demands) if f is not None), None)

    return find


def _turn_marks(text: Text) -> str | None:
    return next((mark for mark in _TURN_MARKS if mark in text.plain), None)


def _hidden_characters(text: Text) -> str | None:
    if text.raw.isascii():
        return None
    if _TAG_LETTERS.search(text.raw):  # a flag emoji is the one honest use
        return "letters that no font shows (Unicode tags)"
    if _HIDDEN_LETTERS.search(text.raw):
        return "zero-width characters inside words"
    if _REORDERING.search(text.raw):
        return "characters that reverse the reading order"
    return None


def _hidden_markup(text: Text) -> str | None:
    if "style" in text.plain:
        squeezed = text.plain.replace(" ", "")
        style = next((s for s in _HIDING_STYLES if s in squeezed), None)
        if style is not None:
            return style.rstrip(";")
    if _LEAKING_IMAGE.search(text.raw):
        return "an image whose address carries data"
    return None


CHECKS: tuple[Check, ...] = (
    Check("instruction override", _any_of(_OVERRIDES)),
    Check("role change", _any_of(_ROLES)),
    Check("request for secrets", _any_of(_SECRETS)),
    Check("forged conversation turn", _turn_marks),
    Check("hidden characters", _hidden_characters),
    Check("hidden markup", _hidden_markup),
)
"""The checks made on every text a model reads; add to a copy, pass it to `suspicious`."""
