"""A stand-in model server for the demo, tests and benchmarks."""
