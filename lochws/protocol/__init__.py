"""The WebSocket protocol (RFC 6455, RFC 7692): bytes in, events out, without sockets, threads or clocks."""
