"""Check digits and number ranges, on bare digits and capitals without separators.

python-stdnum knows most of them; what it lacks (VIN, NPI, DEA, card ranges) is written here. A check that fails is no
proof: real text is full of invented numbers, so recognisers use checks to raise certainty, never to overrule a keyword.
"""

import re
from functools import cache
from typing import Final

from stdnum import numdb
from stdnum.gb import nhs
from stdnum.iso7064 import mod_97_10

_CARD_RANGES: Final = re.compile(
    r"(?:4\d{12}(?:\d{3}(?:\d{3})?)?"  # Visa 13, 16, 19
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}(?:\d{2,5})?"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d{2})\d{12,15}"  # Discover
    r"|35\d{14,17}"  # JCB (3528 to 3589, and test numbers)
    r"|(?:2131|1800)\d{11}"  # JCB, old
    r"|62\d{14,17}"  # UnionPay
    r"|(?:50(?:18|20|38)|5[6-8]\d{2}|6304|6390|67[0-9]{2}|0604)\d{8,15})"  # Maestro
)

# ISO 3779: letters count as digits (I, O and Q do not occur); position 9 is the check digit.
_VIN_VALUES: Final = dict(
    zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "012345678912345678123457923456789"), strict=True)
)
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


_LUHN_DOUBLED: Final = bytes((byte - 48) * 2 % 9 or (byte - 48 and 9) if 48 <= byte < 58 else 0 for byte in range(256))
"""Every second digit doubled, its own digits added up."""


def is_luhn(digits: str) -> bool:
    """Whether ASCII digits end in the check digit of ISO/IEC 7812-1, annex B."""
    ascii_digits = digits.encode()
    singles = ascii_digits[-1::-2]
    return (sum(singles) - 48 * len(singles) + sum(ascii_digits[-2::-2].translate(_LUHN_DOUBLED))) % 10 == 0


def is_card_range(digits: str) -> bool:
    """Whether a payment scheme issues numbers of this prefix and length (ISO/IEC 7812)."""
    return _CARD_RANGES.fullmatch(digits) is not None


def is_card(digits: str) -> bool:
    """Whether this is a card number of a known range with a right check digit."""
    return is_card_range(digits) and is_luhn(digits)


def is_imei(digits: str) -> bool:
    """Whether these 15 digits are an IMEI of a reporting body in use, with its Luhn digit (3GPP TS 23.003)."""
    return len(digits) == 15 and digits[:2] in {"01", "35", "86", "99"} and is_luhn(digits)


def _verhoeff_rows() -> list[list[list[int]]]:
    """For each of twelve positions from the right: check so far and digit -> check (Verhoeff 1969)."""
    turned = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    permutation = list(range(10))
    rows = []
    for _ in range(12):
        rows.append([[_in_d5(check, permutation[digit]) for digit in range(10)] for check in range(10)])
        permutation = [permutation[digit] for digit in turned]
    return rows


def _in_d5(a: int, b: int) -> int:
    """The product of two elements of the dihedral group of order ten: 0 to 4 turn, 5 to 9 reflect."""
    if a < 5:
        return (a + b) % 5 + (b >= 5) * 5
    return (a - b) % 5 + (b < 5) * 5


_VERHOEFF: Final = _verhoeff_rows()


def is_vin(text: str) -> bool:
    """Whether these 17 characters carry the check digit of North American vehicle numbers (49 CFR 565.15).

    European numbers have no check digit: false says nothing about them.
    """
    total = sum(_VIN_VALUES[char] * weight for char, weight in zip(text, _VIN_WEIGHTS, strict=True))
    return text[8] == "0123456789X"[total % 11]


def is_npi(digits: str) -> bool:
    """Whether this is a National Provider Identifier: Luhn over the prefix 80840 and ten digits (45 CFR 162.406)."""
    return len(digits) == 10 and digits[0] in "12" and is_luhn("80840" + digits)


def is_dea(text: str) -> bool:
    """Whether two letters and seven digits are a DEA registration: d1+d3+d5 + 2(d2+d4+d6) ends in d7."""
    d = [int(char) for char in text[2:]]
    return (d[0] + d[2] + d[4] + 2 * (d[1] + d[3] + d[5])) % 10 == d[6]


def is_nhs(digits: str) -> bool:
    """Whether ten digits pass the modulus 11 check of the NHS number."""
    return bool(nhs.is_valid(digits))


def is_aadhaar(digits: str) -> bool:
    """Whether twelve digits pass the Verhoeff check and range of the Aadhaar number."""
    if len(digits) != 12 or digits[0] in "01":
        return False
    check = 0
    for row, digit in zip(_VERHOEFF, map(int, reversed(digits)), strict=True):
        check = row[check][digit]
    return check == 0


def is_iban(compact: str) -> bool:
    """Whether an IBAN of the right length passes ISO 7064 mod 97-10."""
    return len(compact) == iban_length(compact[:2]) and bool(mod_97_10.is_valid(compact[4:] + compact[:4]))


@cache
def iban_length(country: str) -> int:
    """Characters of an IBAN of this country (two capitals) by the SWIFT registry; 0: it has none."""
    (_, found), *_ = numdb.get("iban").info(country)
    return 4 + sum(map(int, re.findall(r"\d+", found["bban"]))) if found else 0
