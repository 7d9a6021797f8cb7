"""One open WebSocket: what it receives, and what it sends."""
