"""Policy distribution over one bidirectional gRPC stream per sidecar."""
