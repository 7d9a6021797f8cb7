"""RFC 6455 and RFC 7692 as bytes in, events out: no socket, no thread, no clock."""
