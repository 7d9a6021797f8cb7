"""Opening a WebSocket: requests, redirects, refusals, and advice on what went wrong."""
