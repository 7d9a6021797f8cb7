"""Connection: one open WebSocket, with its receiving half, its sending half and its send queue."""
