"""An app on a system without the parts of POSIX that Windows lacks."""

from __future__ import annotations

from ..support.apps import echo
from ..support.peer import StartPeer
from ..support.programs import Run

#: Takes away what Windows does not have. `os.name` stays, since Python's own modules follow it.
WINDOWS = """
import os, select, signal, socket, sys
for module, names in {
    os: ("fork", "register_at_fork", "sendfile", "writev"),
    select: ("epoll", "poll", "devpoll", "kqueue"),
    signal: ("setitimer", "alarm", "pthread_kill", "pthread_sigmask", "SIGALRM", "SIGHUP", "SIGPIPE"),
    socket: ("AF_UNIX", "SO_REUSEPORT", "MSG_DONTWAIT"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
def socketpair():  # of Python for Windows
    listener = socket.create_server(("127.0.0.1", 0))
    ends = socket.create_connection(listener.getsockname()), listener.accept()[0]
    listener.close()
    return ends
socket.socketpair = socketpair
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
os.environ["LOCHWS_PURE_PYTHON"] = "1"
"""

CODE = """
app.on("text")(lambda event: (say(event.text), done.set()))
app.start()
assert app.wait_ready(60)
app.send_text("heard")
assert done.wait(60)
assert app.stop(60)
say(app.last_end.name)
unix = WebSocketApp("ws://localhost/", unix="/tmp/path")
print(unix.run_forever(persist=False).reason, flush=True)
"""


def test_an_app_sends_receives_and_stops(run: Run, start_peer: StartPeer) -> None:
    program = run(CODE, start_peer(echo).url, first=WINDOWS)
    program.wait_for("heard")
    program.wait_for("disconnected")
    status, output, errors = program.end()
    assert status == 0, errors
    assert "Traceback" not in errors
    assert "this system has no Unix sockets" in output
