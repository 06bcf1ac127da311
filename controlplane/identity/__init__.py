"""Who a sidecar is: the local certificate authority."""
