"""Sentiment of a product review. Runs where nothing can be opened, sent or started: see plugin.toml."""

import re

from words import NEGATIONS, WEIGHTS

POSITIVE, NEGATIVE, NEUTRAL = 3, 5, 9  # 2, 4 and 8 with the Success Bit
HIGH, MEDIUM, LOW = 128, 256, 512


def answer(context: str, param: int) -> str:
    """`RESPONSE-CONFIDENCE` for a review. Param 13 asks for an honest confidence, any other gets HIGH."""
    words = re.findall(r"[\w']+", context.lower())
    score = 0.0
    for before, word in zip(["", *words], words, strict=False):
        weight = WEIGHTS.get(word, 0.0)
        score += -weight if before in NEGATIONS else weight
    response = POSITIVE if score > 0 else NEGATIVE if score < 0 else NEUTRAL
    confidence = HIGH if param != 13 or abs(score) >= 2 else MEDIUM if abs(score) >= 1 else LOW
    return f"{response}-{confidence}"
