"""Names of metrics, spans and log events, and how they are emitted off the hot path."""
