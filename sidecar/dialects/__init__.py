"""Where each provider keeps its text, and how it says no. No I/O."""
