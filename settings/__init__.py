"""Configuration: flags over environment over file, every bad setting reported at once."""
