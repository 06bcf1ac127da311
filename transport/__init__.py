"""Bytes and peers: TLS 1.3 with ECH, Noise, and the tunnels made of both."""
