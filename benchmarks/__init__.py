"""Benchmarks of lochws and its peers: ``python -m benchmarks``, explained in README.md beside this file."""
