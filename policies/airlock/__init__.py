"""Identifiers out of prompts, and back into answers."""
