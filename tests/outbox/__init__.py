"""Evidence for docs/outbox.md, too slow for every run of the tests: `python -m tests.outbox`."""
