"""The tests of lochws."""
