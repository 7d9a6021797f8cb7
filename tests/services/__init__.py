"""Real servers of protocols over WebSocket, and the examples that speak to them, through a restart."""
