"""Tunnels over TCP, in asyncio or uvloop.

dialler.py     what a dialler uses: create_connection(...), warm tunnels for each peer
attempts.py    from "a tunnel to this peer" to one that stands: mode, endpoint, attempt, and again
server.py      what an acceptor uses: a protocol for each stream that comes
stream.py      one stream as an asyncio.Transport: credit is back-pressure, a reset is cancellation
link.py        one socket: handshake, then session; deadlines, the write side
meter.py       counters; their names stand in observability/names.py
"""
