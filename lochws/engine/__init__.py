"""Engine: threads and the event loop that they turn; knows nothing of WebSocket."""
