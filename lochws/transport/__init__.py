"""Bytes over a network, whatever they mean: addresses, TCP, TLS, proxies."""
