"""One module a command; `aegis.py` imports the one that runs."""
