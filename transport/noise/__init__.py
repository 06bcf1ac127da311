"""Noise XK and XKpsk3, sans-I/O (Noise protocol framework, revision 34).

suite.py      which pattern, AEAD and hash; what a handshake promises
package.py    over PyPI's noiseprotocol, behind one door
own.py        written out for these two patterns: the oracle of the other, and its replacement should it break
errors.py
"""
