"""A program that forks: the child is told at once, and the parent notices nothing."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from ..support.peer import CLOSE, TEXT, Link, StartPeer
from ..support.programs import Run
from ..support.scripts import answer_close, silent
from ..support.seen import PATIENCE
from .registry import fault

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

FORKED = "this process was forked, and the WebSocket was started in its parent"

#: What follows runs in a child, whose exit status is the parent's to see: 0 only if nothing went wrong there.
FORK = """
def fork(function):
    child = os.fork()
    if not child:
        function()
        sys.exit(0)
    say(f"child {os.waitpid(child, 0)[1]}")
def refused(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""

#: Every use of an app in the child: what may not be is refused, and nothing waits.
USE = FORK + """
def use():
    began = time.monotonic()
    assert app.is_closed, app.state
    assert refused(lambda: app.send_text("child")) == f"WebSocketClosed: not sent: {forked}"
    assert refused(lambda: app.send_ping(b"child")) == f"WebSocketClosed: not sent: {forked}"
    assert refused(app.reconnect) == f"WebSocketError: cannot reconnect: {forked}"
    assert refused(lambda: app.call_later(0, print)) == f"WebSocketError: cannot call later: {forked}"
    app.close()
    app.force_disconnect()
    assert not app.wait_ready(100)
    assert app.join(100)
    assert app.stop(100)
    assert app.counters.messages_sent == 0
    app.on("text")(print)
    assert time.monotonic() - began < 50  # half of the limits above
"""


def using(code: str) -> str:
    """A program whose child uses the app as `USE` does."""
    return f"forked = {FORKED!r}\n{USE}{code}"


class Noted:
    """A script that notes what each connection gets until the client's Close frame, which it answers."""

    def __init__(self) -> None:
        self.connections: list[list[tuple[int, bytes]]] = []

    def __call__(self, link: Link) -> None:
        link.accept()
        self.connections.append(answer_close(link))


@pytest.fixture(params=["ws", "wss"])
def noted(
    request: pytest.FixtureRequest, start_peer: StartPeer, server_tls: ssl.SSLContext
) -> tuple[Noted, str]:
    """A server that notes what it gets, and its URL."""
    noted = Noted()
    return noted, start_peer(noted, tls=server_tls if request.param == "wss" else None).url


@fault("program", "A fork while connected")
def test_a_child_is_told_at_once_and_the_server_hears_of_the_parent_alone(
    run: Run, noted: tuple[Noted, str], ca_file: str
) -> None:
    program = run(using("""
atexit.register(app.stop)
app.start()
assert app.wait_ready(60)
app.send_text("before")
fork(use)
app.send_text("after")
"""), noted[1], options=f"ssl_cafile={ca_file!r}")
    status, output, _ = program.end()
    assert (status, output) == (0, "child 0\n")
    assert noted[0].connections == [[(TEXT, b"before"), (TEXT, b"after")]]


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
@fault("program", "A fork while connected")
def test_a_child_keeps_nothing_of_an_attempt_whatever_lock_is_held_while_the_parent_forks(
    run: Run, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, tls: bool
) -> None:
    waiting, ended = threading.Semaphore(0), threading.Semaphore(0)

    def script(link: Link) -> None:
        link.read_request()
        waiting.release()
        link.wait_for_end()
        ended.release()

    program = run(using("""
from lochws import Threads
from lochws.system.control import control_lock
held, forked_now = threading.Event(), threading.Event()
def hold():
    with control_lock():
        held.set()
        forked_now.wait(60)
shared = Threads()
apps = [WebSocketApp(sys.argv[1], threads=shared, ssl_cafile=CAFILE) for _ in range(2)]
for app in apps:
    app.start()
sys.stdin.readline()
daemon(hold)
held.wait(60)
if not os.fork():
    use()
    say("used")
    sys.stdin.read()
    os._exit(0)
forked_now.set()
for app in apps:
    app.stop()
""").replace("CAFILE", repr(ca_file)), start_peer(script, tls=server_tls if tls else None).url)
    for _ in range(2):
        assert waiting.acquire(timeout=PATIENCE)
    program.write("go")
    program.wait_for("used")
    for _ in range(2):
        assert ended.acquire(timeout=PATIENCE)  # although the child still runs
    assert program.end()[0] == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="what is open cannot be counted")
@fault("program", "A fork while connected")
def test_a_child_keeps_no_socket_of_a_race_of_addresses(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(2):  # from now on, the kernel drops the packets that ask for a connection
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        program = run(using("""
def sockets():
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return {link[len("socket:["):-1] for link in links if link.startswith("socket:")}
def is_connecting():
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    return any(row[3] == "02" and row[9] in sockets() for row in rows)  # SYN_SENT
before = sockets()
app.start()
while not is_connecting():
    time.sleep(0.001)
def look():
    use()
    assert sockets() == before
fork(look)
app.stop()
"""), f"ws://127.0.0.1:{full.getsockname()[1]}/")
        status, output, errors = program.end()
    assert (status, output) == (0, "child 0\n"), errors


@fault("program", "A fork while connected")
def test_the_app_can_be_started_again_in_the_child(run: Run, noted: tuple[Noted, str], ca_file: str) -> None:
    program = run(using("""
def again():
    use()
    app.start()
    assert app.wait_ready(60)
    app.send_text("child")
    assert app.stop(60)
app.start()
assert app.wait_ready(60)
fork(again)
app.send_text("parent")
app.stop()
"""), noted[1], options=f"ssl_cafile={ca_file!r}")
    status, output, _ = program.end()
    assert (status, output) == (0, "child 0\n")
    assert noted[0].connections == [[(TEXT, b"child")], [(TEXT, b"parent")]]


@fault("program", "A fork while connected")
def test_apps_that_share_threads_get_new_ones_in_the_child(run: Run, start_peer: StartPeer) -> None:
    noted = Noted()
    program = run(using("""
from lochws import Threads
shared = Threads()
apps = [WebSocketApp(sys.argv[1], threads=shared) for _ in range(2)]
def again():
    for app in apps:
        app.start()
        assert app.wait_ready(60)
        app.send_text("child")
    for app in apps:
        app.stop()
apps[0].start()
assert apps[0].wait_ready(60)
fork(again)
apps[0].send_text("parent")
apps[0].stop()
"""), start_peer(noted).url)
    status, output, _ = program.end()
    assert (status, output) == (0, "child 0\n")
    assert sorted(noted.connections) == [[(TEXT, b"child")], [(TEXT, b"child")], [(TEXT, b"parent")]]


@fault("program", "A fork while connected")
@pytest.mark.parametrize(
    ("name", "script"), [("connected", Link.wait_for_end), ("back_off", Link.accept)],
    ids=["connecting", "backing off"],
)
def test_so_it_is_while_the_app_has_no_connection(
    name: str, script: Callable[[Link], object], run: Run, start_peer: StartPeer
) -> None:
    program = run(using(f"""
until({name!r})
app.start(persist=Backoff(99, 99))
assert done.wait(60)
fork(use)
assert app.stop(60)
"""), start_peer(script).url)
    status, output, _ = program.end()
    assert (status, output) == (0, "child 0\n")


@fault("program", "A fork while connected")
def test_a_child_that_a_handler_forks_ends_with_that_handler(run: Run, start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.send_frame(TEXT, b"1")
        link.send_frame(TEXT, b"2")
        assert answer_close(link) == [(TEXT, b"parent")]

    program = run(using("""
def text(event):
    if event.text == "1":
        child = os.fork()
        if not child:
            return use()
        say(f"child {os.waitpid(child, 0)[1]}")
        app.send_text("parent")
    else:
        app.close()
app.on("text")(text)
app.run_forever()
"""), start_peer(script).url)
    status, output, errors = program.end()
    assert (status, output) == (0, "child 0\n")
    assert "Traceback" not in errors


@fault("program", "A fork while connected")
@pytest.mark.parametrize("app", ["address", "sys.argv[1], headers=headers"], ids=["URL", "headers"])
def test_a_child_that_a_function_for_url_or_headers_forks_makes_no_connection_of_its_own(
    app: str, run: Run, start_peer: StartPeer
) -> None:
    noted = Noted()
    peer = start_peer(noted)
    program = run(using("""
forking = [os.fork]
def headers():
    child = forking.pop()() if forking else None
    if child:
        say(f"child {os.waitpid(child, 0)[1]}")
    elif child is not None:
        use()
    return {}
def address():
    headers()
    return sys.argv[1]
app = WebSocketApp(APP)
app.on("disconnected", "connect_fail")(lambda event: say(event))
app.start(persist=Backoff(0, 0))
assert app.wait_ready(60)
app.send_text("parent")
app.stop()
""".replace("APP", app)), peer.url)
    status, output, errors = program.end()
    assert (status, output) == (0, "child 0\nwe closed the connection: 1000\n")
    assert "Traceback" not in errors
    assert noted.connections == [[(TEXT, b"parent")]]
    assert len(peer.links) == 1


@fault("program", "A fork while connected")
def test_a_child_that_lives_on_does_not_keep_its_parents_connection_open(
    run: Run, start_peer: StartPeer
) -> None:
    gone = threading.Event()

    def script(link: Link) -> None:
        silent(link)
        gone.set()

    program = run(FORK + """
app.start()
assert app.wait_ready(60)
if os.fork():
    os._exit(0)  # without a word to the server
sys.stdin.read()
""", start_peer(script).url)
    assert gone.wait(PATIENCE)
    assert program.end()[0] == 0


@fault("program", "A fork while connected")
def test_a_child_cannot_go_on_with_its_parents_iteration(run: Run, start_peer: StartPeer) -> None:
    frames: list[tuple[int, bytes]] = []

    def script(link: Link) -> None:
        link.accept()
        while (frame := link.read_frame())[0] != CLOSE:
            frames.append(frame)
        link.send_frame(*frame)

    program = run(using("""
from lochws import WebSocket
websocket = WebSocket(sys.argv[1])
iteration = websocket.connect(ping_rate=0, poll=0)
def use():
    assert refused(lambda: websocket.send_text("child")) == f"WebSocketClosed: not sent: {forked}"
    websocket.close()
    assert refused(lambda: next(iteration)) == f"WebSocketError: cannot iterate: {forked}"
    names = []
    for event in websocket.connect():
        names.append(event.name)
        websocket.close()
    assert names[-1] == "connect_fail", names
for event in iteration:
    if event.name == "ready":
        fork(use)
        websocket.send_text("parent")
        websocket.close()
"""), start_peer(script).url)
    status, output, _ = program.end()
    assert (status, output) == (0, "child 0\n")
    assert frames == [(TEXT, b"parent")]


@fault("program", "A fork while connected")
def test_a_child_forked_in_the_midst_of_an_iterations_attempt_ends_it_and_may_begin_another(
    run: Run, start_peer: StartPeer
) -> None:
    noted = Noted()
    program = run("""
from lochws import WebSocket
forked = []
def address():
    if not forked:
        forked.append(os.fork())
        if forked[0]:
            say(f"child {os.waitpid(forked[0], 0)[1]}")
    return sys.argv[1]
websocket = WebSocket(address)
def last():
    for event in websocket.connect(ping_rate=0, poll=0):
        if event.name == "ready":
            websocket.send_text("parent" if forked[0] else "child")
            websocket.close()
    return event.name
if last() == "connect_fail" and not forked[0]:
    assert last() == "disconnected"
else:
    assert forked[0]
""", start_peer(noted).url)
    status, output, errors = program.end()
    assert (status, output) == (0, "child 0\n"), errors
    assert noted.connections == [[(TEXT, b"child")], [(TEXT, b"parent")]]


@fault("program", "A fork while connected")
def test_timeouts_of_requests_work_in_the_child_too(run: Run, start_peer: StartPeer) -> None:
    program = run(using("""
from lochws.handlers.replies import Replies
replies = Replies(app)
def again():
    use()
    app.start()
    assert app.wait_ready(60)
    assert "no reply to" in refused(lambda: replies.request({}, timeout=0.01).result(60))
    assert app.stop(60)
app.start()
assert app.wait_ready(60)
replies.request({}, timeout=100)
fork(again)
app.stop()
"""), start_peer(Noted()).url)
    status, output, errors = program.end()
    assert (status, output) == (0, "child 0\n"), errors
