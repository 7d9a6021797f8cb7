"""Engine: the event loop and the threads that run it, independent of WebSocket."""
