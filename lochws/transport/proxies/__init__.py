"""Proxies: which one to use for a URL, and how to get through it."""
