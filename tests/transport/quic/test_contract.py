"""The private surface of aioquic that we use: a release that changes it fails here, by name, and not in a handshake."""

import inspect
import os
import re

import pytest

aioquic = pytest.importorskip("aioquic", reason="the extra quic is not installed")

from aioquic import tls as theirs  # noqa: E402
from aioquic.asyncio.protocol import QuicConnectionProtocol  # noqa: E402
from aioquic.quic import connection as module  # noqa: E402
from aioquic.quic.connection import QuicConnection  # noqa: E402
from aioquic.quic.packet import QuicErrorCode, QuicFrameType  # noqa: E402

from tests.fakes.tls13 import NOW, Pki  # noqa: E402
from transport.quic.endpoint import FRAME_HANDLERS, attach, quic_configuration, tls_of  # noqa: E402
from transport.quic.engine import QuicAlert, QuicTls  # noqa: E402
from transport.tls13.alerts import EchRejectedError  # noqa: E402
from transport.tls13.config import ClientConfig  # noqa: E402

SOURCE = inspect.getsource(module)
ONLY_BEFORE_WE_TAKE_OVER = {"certificate", "certificate_chain", "certificate_private_key"}
"""Set on aioquic's own TLS in `_initialize`, which then is dropped."""


@pytest.fixture
def engine() -> QuicTls:
    return QuicTls(ClientConfig("a.example", Pki().trust, alpn=(b"h3",)), random=os.urandom, now=NOW)


@pytest.fixture
def connection() -> QuicConnection:
    return QuicConnection(configuration=quic_configuration(ClientConfig("a.example", Pki().trust, alpn=(b"h3",))))


def test_release_is_the_one_this_was_written_for() -> None:
    assert aioquic.__version__.split(".")[:2] == ["1", "7"]


def test_connection_touches_nothing_of_its_tls_that_ours_has_not(engine: QuicTls) -> None:
    touched = set(re.findall(r"\bself\.tls\.(\w+)", SOURCE)) - ONLY_BEFORE_WE_TAKE_OVER

    assert touched == {
        "handle_message",
        "handshake_extensions",
        "received_extensions",
        "alpn_cb",
        "alpn_negotiated",
        "update_traffic_key_cb",
        "get_session_ticket_cb",
        "new_session_ticket_cb",
        "session_ticket",
        "session_resumed",
        "early_data_accepted",
        "state",
        "legacy_session_id",
        "client_random",
    }
    assert touched - {"client_random"} <= set(dir(engine))


def test_state_is_compared_to_what_ours_says() -> None:
    compared = set(re.findall(r"\btls\.State\.(\w+)", SOURCE))

    assert compared == {"CLIENT_EXPECT_SERVER_HELLO", "CLIENT_POST_HANDSHAKE", "SERVER_POST_HANDSHAKE"}


def test_tls_is_made_in_initialize_and_nowhere_else() -> None:
    assert re.findall(r"self\.tls = (\S+)\(", SOURCE) == ["tls.Context"]
    assert "self.tls = tls.Context(" in inspect.getsource(QuicConnection._initialize)
    assert list(inspect.signature(QuicConnection._initialize).parameters) == ["self", "peer_cid"]
    assert SOURCE.count("self._initialize(") == 2


def test_crypto_frames_go_through_the_table_of_handlers(connection: QuicConnection) -> None:
    handler, spaces = getattr(connection, FRAME_HANDLERS)[QuicFrameType.CRYPTO]

    assert handler == connection._handle_crypto_frame
    assert spaces == {theirs.Epoch.INITIAL, theirs.Epoch.HANDSHAKE, theirs.Epoch.ONE_RTT}
    assert list(inspect.signature(handler).parameters) == ["context", "frame_type", "buf"]
    assert "self.tls.handle_message(event.data, self._crypto_buffers)" in inspect.getsource(handler.__func__)


def test_initial_space_can_be_discarded() -> None:
    assert list(inspect.signature(QuicConnection._discard_epoch).parameters) == ["self", "epoch"]


def test_alert_becomes_a_crypto_error() -> None:
    assert "QuicErrorCode.CRYPTO_ERROR + int(exc.description)" in SOURCE
    assert QuicErrorCode.CRYPTO_ERROR + int(QuicAlert(EchRejectedError(None)).description) == 377
    assert issubclass(QuicAlert, theirs.Alert)


def test_callbacks_take_what_ours_give() -> None:
    assert list(inspect.signature(QuicConnection._alpn_handler).parameters) == ["self", "alpn_protocol"]
    update = inspect.signature(QuicConnection._update_traffic_key)
    assert list(update.parameters) == ["self", "direction", "epoch", "cipher_suite", "secret"]


def test_protocol_keeps_its_connection_where_we_look(connection: QuicConnection) -> None:
    assert "self._quic = quic" in inspect.getsource(QuicConnectionProtocol.__init__)
    attach(
        connection, lambda: QuicTls(ClientConfig("a.example", Pki().trust, alpn=(b"h3",)), random=os.urandom, now=NOW)
    )
    connection.connect(("a.example", 443), now=0.0)
    assert isinstance(tls_of(connection), QuicTls)


def test_connection_without_ours_is_told_apart(connection: QuicConnection) -> None:
    connection.connect(("a.example", 443), now=0.0)

    with pytest.raises(TypeError, match="aioquic"):
        tls_of(connection)
