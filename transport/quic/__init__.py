"""Our TLS 1.3 engine with ECH under aioquic, in place of its own TLS (extra `quic`).

aioquic 1.7 has no ECH, no HelloRetryRequest, no exporter and no post-quantum key exchange. Its packets, loss recovery
and streams are used as they are. engine.py is what its QuicConnection takes for TLS, endpoint.py puts it there:

    async with aioquic.asyncio.connect(
        host, port, configuration=quic_configuration(tls), create_protocol=with_tls(tls, random=..., now=...)
    ) as protocol:
        tls_of(protocol).complete      # what was negotiated; and `failure`, if it came to nothing

tunnels.py carries whole tunnels (`transport.tunnel`, `transport.mux`) over one stream; channel.py says what is the same
as over TCP and what is not.

A private surface of aioquic is used, pinned by tests/transport/quic/test_contract.py and by `aioquic>=1.7,<1.8`.

Limits: the length of the encrypted flight is not padded over QUIC, so it may tell certificates of different length
apart. No 0-RTT, no resumption.
"""
