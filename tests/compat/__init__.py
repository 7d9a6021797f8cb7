"""The drop-in for websocket-client beside the original."""
