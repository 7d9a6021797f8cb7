"""Receipts compared with what servers have read, when the link is cut at every byte of a conversation."""
