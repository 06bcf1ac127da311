"""Streams in a tunnel: frames, credit windows, fair turns; sans-I/O."""
