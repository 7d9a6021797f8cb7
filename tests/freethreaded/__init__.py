"""Suites that run without a global interpreter lock: see `__main__`."""
