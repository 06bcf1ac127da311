"""A small TLS 1.3 engine, client and server, sans-I/O (RFC 8446), with Encrypted Client Hello (RFC 9849).

It knows TLS 1.3 and nothing else: no client certificates, no resumption, no 0-RTT. How it is used:

    connection = client.connect(ClientConfig(...), random=os.urandom, now=...)    # or server.accept(ServerConfig(...))
    transport.write(connection.data_to_send())

    # asyncio.BufferedProtocol.get_buffer / buffer_updated
    connection.get_buffer()               # where the next bytes from the network go: writable, in our own buffer
    connection.buffer_updated(count)
    while (event := connection.next_event()) is not None:    # raises TlsError: write data_to_send(), then close
        match event:
            case HandshakeComplete(): connection.export(label, context, length)
            case ApplicationData(data=view): ...             # decrypted in place; gone with the next get_buffer
            case CloseNotify(): ...
    transport.write(connection.data_to_send())

`next_event` decrypts one record per event. Between two events the user may call `send`, `export`,
`replace_traffic_secrets(read=..., write=...)` and `close`; new read secrets hold for the very next record, although it
may have arrived in the same segment. `update_keys` sends a KeyUpdate; counts of records and bytes do so by themselves.
After a TlsError the connection is dead and raises it again.
"""
