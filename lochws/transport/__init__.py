"""Byte streams over a network, whatever the bytes mean: addresses, TCP, TLS and proxies."""
