"""Bytes in, events or bytes out: HTTP/1 framing, SSE, JSON splicing. No I/O."""
