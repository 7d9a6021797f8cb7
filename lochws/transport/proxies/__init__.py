"""The way through a proxy."""
