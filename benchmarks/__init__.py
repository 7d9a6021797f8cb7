"""What lochws and its peers cost: ``python -m benchmarks``, explained in README.md beside this file."""
