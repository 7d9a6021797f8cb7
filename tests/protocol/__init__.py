"""Tests of lochws.protocol: bytes in, events out, with neither sockets nor threads."""
