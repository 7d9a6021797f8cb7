"""Byte streams over a network: addresses, TCP, TLS and proxies."""
