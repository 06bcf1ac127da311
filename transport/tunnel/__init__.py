"""Tunnels between workloads, sans-I/O: one handshake made of TLS 1.3 with ECH and Noise XKpsk3, then streams.

dialling.py    the end that dials: Plan -> Dialling -> Established
accepting.py   the end that is dialled: Reception -> Accepting -> Established
prologue.py    what both ends must agree upon, or cannot talk
greeting.py    what travels beside the Noise messages
binding.py     keys that need both handshakes
session.py     a tunnel that stands: streams in records, signs of life, fresh keys, old age
errors.py

The application form of the handshake, for fronts that terminate TLS, is named in the prologue and not implemented.
"""
