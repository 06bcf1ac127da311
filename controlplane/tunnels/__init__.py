"""Keys of tunnels: made, kept sealed, rotated only as far as every sidecar has acknowledged, revoked."""
