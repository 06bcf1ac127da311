"""What can go wrong in a Noise handshake.

NoiseError               the peer's fault or an attack: the connection must be closed
"""


class NoiseError(Exception):
    """A message did not authenticate, was malformed or too long, or the handshake had failed before.

    Never says which check failed in detail: a peer that guesses at keys must learn nothing from it.
    """
