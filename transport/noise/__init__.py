"""Noise XK and XKpsk3, sans-I/O (Noise protocol framework, revision 34)."""
