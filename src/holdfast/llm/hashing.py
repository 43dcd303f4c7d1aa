"""An embedder that needs no model: hashed n-grams. Labelled as such, "not a language model".

It knows which texts share words and parts of words, and nothing of what they mean. Its vectors
are the same in every process, on every machine and in every release: another way of counting gets
another name.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from zlib import crc32

MODEL = "ngrams-1"

LABEL = "hashing, not a language model"

DIMENSIONS = 384

_WORD = re.compile(r"\w+")
_GRAM = 3
_MAX_WORD_CHARS = 64  # of longer ones only the beginning counts


def embed(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A vector of length 1; of a text without any word, all its weight is in the first place.

    Words count with the logarithm of how often they come, their trigrams together as much; each
    is hashed to a place and a sign (the hashing trick: Weinberger et al., ICML 2009).
    """
    vector = [0.0] * dimensions
    folded = unicodedata.normalize("NFKD", text).casefold()
    for word, count in sorted(Counter(_WORD.findall(folded)).items()):
        weight = 1 + math.log(count)
        for hashed, share in _features(word[:_MAX_WORD_CHARS]):
            sign = 1.0 if hashed & 0x80000000 else -1.0
            vector[(hashed & 0x7FFFFFFF) % dimensions] += sign * share * weight
    length = math.sqrt(math.fsum(x * x for x in vector))
    if length == 0.0:
        vector[0] = length = 1.0
    return [x / length for x in vector]


def embed_all(texts: Sequence[str], dimensions: int = DIMENSIONS) -> list[list[float]]:
    """A vector for each text."""
    return [embed(text, dimensions) for text in texts]


@lru_cache(maxsize=16384)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    parts = list(_grams(word))
    share = 1 / math.sqrt(len(parts))
    whole = (crc32(b"w" + word.encode("utf-8", "surrogatepass")), 1.0)
    return (whole, *((crc32(b"g" + p.encode("utf-8", "surrogatepass")), share) for p in parts))


def _grams(word: str) -> Iterator[str]:
    padded = f"<{word}>"
    for at in range(max(1, len(padded) - _GRAM + 1)):
        yield padded[at : at + _GRAM]
