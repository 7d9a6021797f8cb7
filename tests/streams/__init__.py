"""Evidence for docs/streams.md: `python -m tests.streams`."""
