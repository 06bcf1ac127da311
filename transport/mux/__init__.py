"""Streams in a tunnel: frames, credit windows, fair turns; sans-I/O.

frames.py    the wire format, byte by byte
headers.py   the block of fields that opens a stream
limits.py    windows and bounds, with the reason of each
errors.py    MuxError: the peer broke a rule, the tunnel must end
mux.py       the state machine of one end
outbox.py    what it sends, and in which order
sink.py      who is told what the peer did
stream.py    what it knows of one stream
"""
