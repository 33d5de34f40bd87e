"""Mutated files against mnerkit's readers: `make fuzz` (`benchmarks/fuzz.py`)."""
