"""Ledger nodes: the sequencer that extends a log, its storage, and its doors."""
