"""Programs that nobody here wrote, found and started on free loopback ports: proxies, and servers."""
