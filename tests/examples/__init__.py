"""The larger examples: each runs as its reader would run it, in processes of its own."""
