"""Runs the Autobahn fuzzing server against lochws: see ``python -m tests.autobahn --help``."""
