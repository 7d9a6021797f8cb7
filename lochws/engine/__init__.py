"""Threads and the loop they turn; knows nothing of WebSocket."""
