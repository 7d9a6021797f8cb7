"""The program of docs/sequences.md keeps the order books of an exchange that misbehaves."""
