"""Encrypted Client Hello, sans-I/O, for both roles (RFC 9849, version 0xfe0d).

A client engine builds two hellos, and asks what became of them:

    config = choose_config(parse_config_list(data))          # None: nothing usable in it; that is for policy to judge
    hidden = EchOffer(config, random)                        # or GreaseEch(random)
    outer = hidden.seal(inner, outer, compress)              # again for the answer to a HelloRetryRequest
    server_hello_accepts(body, inner.random, transcript)     # or retry_request_accepts

A server engine opens what it gets, and forgets about the outer hello if that works:

    opened = open_first(outer, body, keys)                   # None: go on with `outer`, send retry configurations
    opened.inner                                             # later opened.open_second(outer, body)
    confirm_server_hello(body, opened.inner.random, transcript)   # or confirm_retry_request

Not here: which group, suite and certificate are taken, and that a rejection ends the connection (`transport.tls13`);
when to retry and when never to fall back (the tunnel's policy). Not anywhere: split mode, resumption, ECH in DTLS.
"""
