"""A program that interrupts lochws everywhere, with calls of every public method."""
