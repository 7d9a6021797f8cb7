"""A slow relay, as a separate program: `python relay.py PORT TARGET BYTES_PER_SECOND`.

It takes data from the server no faster than that and buffers little, so that TCP slows the server down.
"""

from __future__ import annotations

import socket
import sys
import threading
from time import monotonic, sleep

#: The most that is taken at a time, and the size of the buffers in the kernel, in bytes. With smaller ones,
#: which hold few of the large segments of loopback, TCP stops for its timers of 0.2 s and more.
PART, BUFFER = 16 * 1024, 512 * 1024


def pass_on(source: socket.socket, target: socket.socket, rate: float) -> None:
    """Pass bytes on until the source ends, no faster than `rate` bytes per second."""
    due = monotonic()
    while data := source.recv(PART):
        target.sendall(data)
        due = max(due, monotonic() - 0.01) + len(data) / rate
        if (left := due - monotonic()) > 0.002:
            sleep(left)
    target.shutdown(socket.SHUT_WR)


def main(port: str, server: str, rate: str) -> None:
    listener = socket.create_server(("127.0.0.1", int(port)))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    while True:
        near, _ = listener.accept()
        far = socket.socket()
        for end, option in ((far, socket.SO_RCVBUF), (near, socket.SO_SNDBUF), (far, socket.SO_SNDBUF)):
            end.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        far.connect(("127.0.0.1", int(server)))
        for source, target in ((near, far), (far, near)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=pass_on, args=(source, target, float(rate)), daemon=True).start()


main(*sys.argv[1:])
