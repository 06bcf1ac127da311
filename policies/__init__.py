"""Decisions: values in, verdict and effects out. No I/O, no clock, no logging.

Read `model.py` for the vocabulary, then `pipeline.py` for the order in which policies are asked.
"""
