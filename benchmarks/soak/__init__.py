"""Soaks: long runs against servers that do everything that makes a client grow, hang or lose messages.

``python -m benchmarks.soak`` runs everything at once; ``python -m benchmarks.soak.wss`` counts messages over
TLS.
"""
