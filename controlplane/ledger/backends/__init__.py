"""Where logs can be kept: one module for each kind of storage."""
