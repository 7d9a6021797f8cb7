"""Tests against independent programs, proxies and servers, started on free loopback ports."""
