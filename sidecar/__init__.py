"""The data plane. Read `exchange.py` first: it tells the life of one exchange."""
