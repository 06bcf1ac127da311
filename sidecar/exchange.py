"""The life of one exchange."""
