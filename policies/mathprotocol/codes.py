"""The code sets of the protocol: primes name tasks, Fibonacci numbers name params, powers of two name results."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

PRIMES: Final = frozenset(
    {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97}
)
FIBONACCI: Final = frozenset({1, 2, 3, 5, 8, 13, 21, 34, 55, 89})
POWERS_OF_TWO: Final = frozenset(1 << n for n in range(13))
"""1 (the Success Bit) to 4096."""

SUCCESS_BIT: Final = 1


class ErrorCode(IntEnum):
    """What is wrong with a request. Sent alone, with no confidence and no payload."""

    INVALID_TASK = 1024
    INVALID_PARAM = 2048
    INVALID_FORMAT = 4096


class Kind(StrEnum):
    """Whether an answer is its code alone, or a code and a text."""

    CLASSIFICATION = "classification"
    GENERATIVE = "generative"


TASK_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        2: "Sentiment",
        3: "Summarization",
        5: "LangDetect",
        7: "EntityExtract",
        11: "Q&A",
        13: "Classify",
        17: "Translate",
        19: "Moderate",
        23: "Keywords",
        29: "Readability",
    }
)
CLASSIFICATION_TASKS: Final = frozenset({2, 5, 13, 19, 29})
GENERATIVE_TASKS: Final = frozenset({3, 7, 11, 17, 23})
V21_TASKS: Final = frozenset(TASK_NAMES)
FREE_PRIMES: Final = PRIMES - V21_TASKS
"""Primes without a task: where traps are drawn and plugins find room."""

PARAM_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {1: "Brief", 2: "Medium", 3: "Detailed", 5: "JSON", 8: "List", 13: "Confidence", 21: "Explain"}
)
EXTENDED_PARAM_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {34: "INCLUDE_CITATIONS", 55: "REDACT_PII", 89: "MAX_PRECISION"}
)
"""Params that only the registry names. 34 and 55 are canaries on every route that does not register them."""
V21_PARAMS: Final = FIBONACCI
V21_CANARIES: Final = frozenset({34, 55})

RESPONSE_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        2: "Positive",
        4: "Negative",
        8: "Neutral",
        16: "English",
        32: "Spanish",
        64: "French",
        128: "HighConf",
        256: "MedConf",
        512: "LowConf",
    }
)
LANGUAGE_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        512: "Chinese/Japanese/Korean",
        1024: "Arabic/Hebrew",
        2048: "Hindi/Bengali",
        4096: "Cyrillic",
        8192: "Portuguese/Spanish",
        16384: "French/German",
    }
)
"""V2 result codes, always sent with the Success Bit. Place and parity keep them apart from errors and confidences: an
error is bare and even, a confidence stands second."""

RESULTS: Final = frozenset({0, 2, 4, 8, 16, 32, 64}) | frozenset(LANGUAGE_NAMES)
"""What remains of a legal RESPONSE code once its Success Bit is taken off."""
CONFIDENCES: Final = frozenset({128, 256, 512})
ERRORS: Final = frozenset(int(code) for code in ErrorCode)
DEFAULT_TRAPS: Final = frozenset({43, 47, 53, 59, 61})
