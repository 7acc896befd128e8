"""Benchmarks that need nothing but the locked packages: `python3 dev.py bench`."""
