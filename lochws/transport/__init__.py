"""Bytes over a network: addresses, TCP, TLS, proxies. Nothing here knows of WebSocket."""
