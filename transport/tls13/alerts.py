"""Alerts, and the one error of this package (RFC 8446 section 6)."""

from enum import IntEnum
from typing import Final


class AlertDescription(IntEnum):
    """RFC 8446 section 6, RFC 7301 section 3.2, RFC 9849 section 11.2. Other values exist and are treated as fatal."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120
    ECH_REQUIRED = 121


class TlsError(Exception):
    """The connection is over. Nothing that the peer sent is in the message.

    TlsError            we found fault with the peer; `alert` has been queued for it
    ├── PeerAlertError  the peer found fault with us, and said so
    ├── EchUnprovedError  the server cannot open our ECH, and did not prove to be `public_name` either
    └── EchRejectedError  the server cannot open our ECH, and proved to be `public_name`
    """

    def __init__(self, alert: int, why: str) -> None:
        """`alert` is the AlertDescription that tells the peer."""
        super().__init__(f"{_name(alert)}: {why}")
        self.alert: Final = alert
        self.why: Final = why


class PeerAlertError(TlsError):
    """The peer sent a fatal alert. Anybody on the path can do that before the handshake keys are in use."""


class EchUnprovedError(TlsError):
    """ECH was rejected by somebody whose certificate is not that of `public_name`: nobody may conclude anything."""


class EchRejectedError(TlsError):
    """ECH was rejected by a server that authenticated as `public_name` (RFC 9849 section 6.1.6).

    The handshake must not count as a success, and nothing but a retry may come of it.
    """

    def __init__(self, retry_configs: bytes | None) -> None:
        """`retry_configs` is an ECHConfigList for one more try, or None if the server has turned ECH off."""
        super().__init__(AlertDescription.ECH_REQUIRED, "the server could not open the encrypted client hello")
        self.retry_configs: Final = retry_configs


def unexpected_message(why: str) -> TlsError:
    """The error for what may not come now."""
    return TlsError(AlertDescription.UNEXPECTED_MESSAGE, why)


def illegal_parameter(why: str) -> TlsError:
    """The error for what is well formed, and wrong or inconsistent."""
    return TlsError(AlertDescription.ILLEGAL_PARAMETER, why)


def missing_extension(why: str) -> TlsError:
    """The error for a message without what it must have."""
    return TlsError(AlertDescription.MISSING_EXTENSION, why)


def _name(alert: int) -> str:
    try:
        return AlertDescription(alert).name.lower()
    except ValueError:
        return f"alert {alert}"
