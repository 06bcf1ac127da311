"""Traps for those who try codes out: where they lie today, and what a caught prober is told."""
