"""Mutation testing: what `mutmut run` needs besides setup.cfg (docs/testing.md)."""
