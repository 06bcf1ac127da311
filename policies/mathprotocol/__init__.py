"""The code protocol: requests and answers that a program can check. The core needs only the standard library.

Read `codes.py`, then `grammar.py` (requests) and `responses.py` (answers); `policy.py` enforces them on a route.
"""
