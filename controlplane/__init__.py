"""The brain: policy distribution, identity, ledger nodes, and the web interface."""
