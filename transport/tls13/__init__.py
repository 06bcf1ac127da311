"""A small TLS 1.3 engine, client and server, sans-I/O (RFC 8446)."""
