"""Task plugins: code of others, in processes that can compute and nothing else. Read `host.py`, then `jail.py`."""
