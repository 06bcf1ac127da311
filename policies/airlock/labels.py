"""What the airlock calls an identifier, and which of them each profile takes out.

The first eighteen names are public since version 1 and never change. They are not the eighteen identifiers of the
HIPAA Safe Harbor rule, 45 CFR 164.514(b)(2)(i): names, places, dates and others were missing; the second group adds
what the rule and its neighbours (GDPR, PCI DSS) name.
"""

from enum import StrEnum
from typing import Final


class Label(StrEnum):
    """The kind of an identifier; also a bounded metric label and the name inside a token."""

    ZIP_CODE = "ZIP_CODE"
    DATE_OF_BIRTH = "DATE_OF_BIRTH"
    PHONE = "PHONE"
    FAX = "FAX"
    EMAIL = "EMAIL"
    SSN = "SSN"
    MRN = "MRN"
    ACCOUNT_NUMBER = "ACCOUNT_NUMBER"
    CREDIT_CARD = "CREDIT_CARD"
    CERTIFICATE_NUMBER = "CERTIFICATE_NUMBER"
    """Certificates and licences: NPI, DEA, medical and driver's licences."""
    VEHICLE_ID = "VEHICLE_ID"
    LICENSE_PLATE = "LICENSE_PLATE"
    DEVICE_SERIAL = "DEVICE_SERIAL"
    """Serial numbers, IMEI, UDI, MAC addresses."""
    URL = "URL"
    IP_ADDRESS = "IP_ADDRESS"
    BIOMETRIC = "BIOMETRIC"
    PHOTO_ID = "PHOTO_ID"
    MEDICAL_RECORD_TEXT = "MEDICAL_RECORD_TEXT"
    """A whole clinical note, not an identifier in it: nothing happens to it unless an action says so."""

    NAME = "NAME"
    ADDRESS = "ADDRESS"
    LOCATION = "LOCATION"
    GEO_COORD = "GEO_COORD"
    DATE = "DATE"
    AGE_OVER_89 = "AGE_OVER_89"
    HEALTH_PLAN_ID = "HEALTH_PLAN_ID"
    UNIQUE_ID = "UNIQUE_ID"
    """Any other number that stands for one person: passport, employee, student, study and case numbers."""
    NATIONAL_ID = "NATIONAL_ID"
    """National identity and tax numbers with a check digit of their own."""
    NHS_NUMBER = "NHS_NUMBER"
    AADHAAR = "AADHAAR"
    IBAN = "IBAN"
    SECRET = "SECRET"  # noqa: S105 a label
    """Keys, passwords and access tokens."""
    LITERAL = "LITERAL"
    """Text of the prompt that looks like one of our tokens: quoted, so that it comes back as it was."""

    # The same number as of Enum.__hash__, which is written in Python: labels are keys, several times per identifier.
    __hash__ = str.__hash__


class Profile(StrEnum):
    """A named set of labels."""

    HIPAA_SAFE_HARBOR = "hipaa_safe_harbor"
    SEED18 = "seed18"
    GDPR = "gdpr"
    PCI = "pci"


_SEED18: Final = frozenset(list(Label)[:18])
_IDENTIFIERS: Final = frozenset(Label) - {Label.MEDICAL_RECORD_TEXT, Label.LITERAL}

PROFILES: Final = {
    Profile.HIPAA_SAFE_HARBOR: _IDENTIFIERS,
    Profile.SEED18: _SEED18 - {Label.MEDICAL_RECORD_TEXT},
    # A date or a web address alone is not personal data; whoever wants them out adds an action.
    Profile.GDPR: _IDENTIFIERS - {Label.DATE, Label.AGE_OVER_89, Label.URL},
    Profile.PCI: frozenset({Label.CREDIT_CARD, Label.ACCOUNT_NUMBER, Label.IBAN, Label.SECRET}),
}
"""Labels that a profile tokenises; all others are allowed unless a policy names an action for them."""
