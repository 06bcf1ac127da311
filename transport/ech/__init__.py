"""Encrypted Client Hello in both roles, sans-I/O (RFC 9849, RFC 9180)."""
