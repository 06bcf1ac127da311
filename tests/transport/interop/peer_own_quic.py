"""Our engine under aioquic, with HTTP/3: server and client."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.events import HandshakeCompleted, ProtocolNegotiated, QuicEvent

from tests.transport.interop.lab import PUBLIC, SECRET, Chain, Lab, first_key
from tests.transport.interop.peer_own import EXPORTER, credential
from tests.transport.interop.scenarios import Ech, Outcome, Running, Scenario, Seen, cells
from transport.quic.endpoint import quic_configuration, tls_of, with_tls
from transport.tls13.alerts import EchRejectedError
from transport.tls13.certificates import Trust
from transport.tls13.config import ClientConfig, ServerConfig
from transport.tls13.events import EchStatus


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 as the peers do


class Http3(QuicConnectionProtocol):
    """HTTP/3 over one connection; what arrives goes to `arrived`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
        elif isinstance(event, HandshakeCompleted):
            self.connected()
        if self.http is not None:
            for each in self.http.handle_event(event):
                self.arrived(each)

    def connected(self) -> None: ...

    def arrived(self, event: H3Event) -> None: ...


class Site(Http3):
    """Answers every request with the report of what it saw."""

    seen: list[Seen]

    def connected(self) -> None:
        complete = tls_of(self).complete
        assert complete is not None
        accepted = complete.ech is EchStatus.ACCEPTED
        self.seen.append(Seen(accepted, complete.server_name or "", tls_of(self).export(EXPORTER, b"", 32)))

    def arrived(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived) and self.http is not None:
            seen = self.seen[-1]
            body = json.dumps({"accepted": seen.accepted, "name": seen.name}).encode()
            headers = [(b":status", b"200"), (b"content-type", b"application/json")]
            self.http.send_headers(event.stream_id, headers)
            self.http.send_data(event.stream_id, body, end_stream=True)
            self.transmit()


class Browser(Http3):
    """Asks once."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def ask(self, name: str) -> None:
        assert self.http is not None
        request = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", name.encode()), (b":path", b"/")]
        self.http.send_headers(self._quic.get_next_available_stream_id(), request, end_stream=True)
        self.transmit()

    def arrived(self, event: H3Event) -> None:
        if isinstance(event, DataReceived) and event.stream_ended and not self.answer.done():
            self.answer.set_result(event.data)


class OwnQuicServer:
    name = "own (quic)"
    cells = cells()

    @contextmanager
    def serve(self, lab: Lab, scenario: Scenario, chains: Sequence[Chain]) -> Iterator[Running]:
        config = ServerConfig(
            tuple(credential(chain) for chain in chains),
            alpn=(b"h3",),
            groups=scenario.server_groups,
            ech_keys=(lab.key,),
        )
        seen: list[Seen] = []
        listening, stopping = threading.Event(), asyncio.Event()
        port, loops = [0], []

        async def run() -> None:
            loops.append(asyncio.get_running_loop())
            site = type("Site", (Site,), {"seen": seen})
            create = with_tls(config, random=os.urandom, now=now, protocol=site)
            server = await serve("127.0.0.1", 0, configuration=quic_configuration(config), create_protocol=create)
            assert server._transport is not None
            port[0] = server._transport.get_extra_info("sockname")[1]
            listening.set()
            await stopping.wait()
            server.close()

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        try:
            assert listening.wait(10)
            yield Running(port[0], seen=seen)
        finally:
            loops[0].call_soon_threadsafe(stopping.set)
            thread.join(30)


class OwnQuicClient:
    name = "own (quic)"
    cells = cells()
    checks_inner_name = False
    recovers = False
    tells_retry = True

    def fetch(self, lab: Lab, scenario: Scenario, port: int) -> Outcome:
        config = ClientConfig(
            PUBLIC if scenario.ech is Ech.GREASE else SECRET,
            Trust([lab.root]),
            ech={Ech.REAL: lab.key.config, Ech.STALE: lab.stale.config}.get(scenario.ech),
            grease_ech=scenario.ech is Ech.GREASE,
            alpn=(b"h3",),
            outer_alpn=(b"h3",),
            groups=scenario.client_groups,
        )
        return asyncio.run(self._ask(config, port))

    async def _ask(self, config: ClientConfig, port: int) -> Outcome:
        made: list[Browser] = []

        def browser(*arguments: Any, **named: Any) -> Browser:
            made.append(Browser(*arguments, **named))
            return made[-1]

        create = with_tls(config, random=os.urandom, now=now, protocol=browser)
        try:
            async with (
                asyncio.timeout(15),
                connect("127.0.0.1", port, configuration=quic_configuration(config), create_protocol=create),
            ):
                made[0].ask(config.server_name)
                body = await made[0].answer
        except ConnectionError as error:
            failure = tls_of(made[0]).failure
            configs = failure.retry_configs if isinstance(failure, EchRejectedError) else None
            return Outcome(succeeded=False, retry_key=first_key(configs or b""), text=f"{error} {failure}")
        complete = tls_of(made[0]).complete
        assert complete is not None
        return Outcome(
            succeeded=bool(body),
            accepted=complete.ech is EchStatus.ACCEPTED,
            exported=tls_of(made[0]).export(EXPORTER, b"", 32),
            text=body.decode(),
        )
