"""What the control plane does against attackers: where traps belong."""
