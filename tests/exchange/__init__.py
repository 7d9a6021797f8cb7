"""Order books that are kept by docs/sequences.md's program, compared with those of an exchange that misbehaves."""
