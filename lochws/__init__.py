"""A threaded, callback-driven WebSocket client framework."""
