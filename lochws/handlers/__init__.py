"""What reacts to events: all of it could be user code."""
