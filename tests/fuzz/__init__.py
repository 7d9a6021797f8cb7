"""Fuzzing: a connection against a model, and coverage-guided inputs for all parsers (docs/testing.md)."""
