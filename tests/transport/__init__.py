"""Tests of lochws.transport, over real sockets."""
