"""One leaf per exchange: built, spooled to disk, shipped until durable."""
