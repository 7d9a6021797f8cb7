"""The suite of faults: what lochws does when something breaks, each a test; `docs/faults.md` is its table."""
