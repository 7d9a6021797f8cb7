"""Fuzzing: a connection against a model, and coverage-guided inputs for all that parses (docs/testing.md)."""
