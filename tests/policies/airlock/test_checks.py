"""Check digits, by published examples and by flipping them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn, verhoeff

from policies.airlock import checks

DIGITS = st.text("0123456789", min_size=1, max_size=20)


@given(DIGITS)
def test_luhn_is_that_of_the_library(digits: str) -> None:
    last = luhn.calc_check_digit(digits)

    assert checks.is_luhn(digits + last)
    assert checks.is_luhn(digits) == luhn.is_valid(digits)


@given(st.text("0123456789", min_size=11, max_size=11))
def test_verhoeff_is_that_of_the_library(digits: str) -> None:
    digits = f"2{digits[1:]}"
    right = verhoeff.calc_check_digit(digits)

    assert [last for last in "0123456789" if checks.is_aadhaar(digits + last)] == [right]


@pytest.mark.parametrize(
    "digits",
    [
        "4111111111111111",  # Visa, Mastercard, American Express, Diners, Discover, JCB test numbers of their networks
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "30569309025904",
        "6011111111111117",
        "3530111333300000",
        "6200000000000005",
        "6759649826438453",
    ],
)
def test_card_numbers_are_known_by_range_and_luhn_digit(digits: str) -> None:
    wrong = digits[:-1] + str((int(digits[-1]) + 1) % 10)

    assert checks.is_card(digits)
    assert checks.is_card_range(wrong)
    assert not checks.is_card(wrong)


def test_numbers_that_nobody_issues_are_no_cards() -> None:
    assert not checks.is_card_range("1234567890123456")
    assert not checks.is_card("79927398713")


def test_vehicle_number_of_the_standard() -> None:
    """49 CFR 565.15, the example that everybody computes."""
    assert checks.is_vin("1M8GDM9AXKP042788")
    assert checks.is_vin("11111111111111111")
    assert not checks.is_vin("1M8GDM9A1KP042788")


def test_provider_numbers() -> None:
    """CMS publishes 1234567893 as an example."""
    assert checks.is_npi("1234567893")
    assert not checks.is_npi("1234567890")
    assert not checks.is_npi("3234567893")
    assert checks.is_dea("AB1234563")
    assert not checks.is_dea("AB1234564")


def test_health_and_identity_numbers() -> None:
    assert checks.is_nhs("9434765919")
    assert not checks.is_nhs("9434765918")
    assert checks.is_aadhaar("234123412346")
    assert not checks.is_aadhaar("134123412346")
    assert not checks.is_aadhaar("23412341234")
    assert checks.is_imei("352099001761481")
    assert not checks.is_imei("352099001761480")
    assert not checks.is_imei("490154203237518")


@pytest.mark.parametrize("number", ["DE89370400440532013000", "GB82WEST12345698765432", "NO9386011117947"])
def test_ibans_of_the_registry(number: str) -> None:
    assert checks.is_iban(number)
    assert not checks.is_iban(number[:-1] + ("1" if number[-1] != "1" else "2"))
    assert not checks.is_iban(number[:-1])


def test_country_without_iban_has_no_length() -> None:
    assert checks.iban_length("US") == 0
    assert checks.iban_length("DE") == 22
