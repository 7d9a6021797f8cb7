"""The lowest layer, which every other package may import: records, and checks of functions."""
