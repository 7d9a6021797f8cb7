"""The examples: each runs as its reader would run it, in a process of its own."""
