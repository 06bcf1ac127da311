"""Proofs: RFC 6962 trees, signed notes, checkpoints, tiles, leaves and commitments. No I/O, no clock."""
