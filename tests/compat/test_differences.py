"""The drop-in alone: `install`, what it refuses, and what it does better than the original."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from time import monotonic
from typing import Any

import pytest

from lochws.compat import websocket
from lochws.testing import StartServer, accept, ping, send, wait_for, wait_for_end, wait_for_pong

from ..support.interrupting import enter
from ..support.seen import PATIENCE, eventually


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    return done.stdout + done.stderr


def test_install_replaces_the_package_and_its_modules() -> None:
    output = run_python("""if True:
        import lochws.compat.websocket as ours
        ours.install()
        ours.install()
        import websocket
        import websocket._app, websocket._core, websocket._exceptions, websocket._abnf, websocket._logging
        from websocket._exceptions import WebSocketException
        assert websocket is ours
        assert websocket._app.WebSocketApp is ours.WebSocketApp
        assert WebSocketException is ours.WebSocketException
        print("done")
    """)
    assert output == "done\n"


def test_after_install_the_modules_that_programs_import_have_their_names() -> None:
    output = run_python("""if True:
        import lochws.compat.websocket as ours
        ours.install()
        import websocket
        from websocket._abnf import ABNF, STATUS_NORMAL
        from websocket._core import WebSocket, create_connection
        from websocket._handshake import SUPPORTED_REDIRECT_STATUSES, handshake_response
        from websocket._http import proxy_info
        from websocket._ssl_compat import HAVE_SSL, SSLError, ssl
        from websocket._utils import NoLock, extract_err_message, extract_error_code, validate_utf8
        with NoLock():
            print(websocket._url.parse_url("wss://example.org/a?b"))
        error = OSError(111, "refused")
        print(extract_error_code(error), extract_err_message(error), extract_err_message(OSError()))
        print(extract_error_code(ValueError("x", 1)), validate_utf8(bytes([255])), validate_utf8("x"))
        print(proxy_info(http_proxy_host="a", http_proxy_port=1, proxy_type="socks5").proxy_protocol)
        try:
            from websocket._http import connect
        except ImportError as refusal:
            print(refusal)
    """)
    lines = output.splitlines()
    assert lines[:4] == [
        "('example.org', 443, '/a?b', True)", "111 111 None", "None False True", "socks5",
    ]
    assert lines[4].startswith("websocket._http.connect needs the network connection")


def test_install_is_refused_after_the_original_was_imported() -> None:
    output = run_python("""if True:
        import websocket
        import lochws.compat
        try:
            lochws.compat.install()
        except RuntimeError as error:
            print(error)
        assert "lochws" not in websocket.__file__
    """)
    assert output.startswith("install(): 'websocket' has already been imported, from ")
    assert "call install() at the start of the program" in output


def connect(**options: Any) -> Callable[[], object]:
    return lambda: websocket.create_connection("ws://127.0.0.1:1", **options)


def run(**options: Any) -> Callable[[], object]:
    return lambda: websocket.WebSocketApp("ws://127.0.0.1:1").run_forever(**options)


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (lambda: websocket.WebSocketApp("ws://a", on_cont_message=print), "use on_message"),
        (lambda: websocket.WebSocketApp("ws://a", get_mask_key=bytes), "leave the argument out"),
        (lambda: websocket.WebSocket(get_mask_key=bytes), "leave the argument out"),
        (lambda: websocket.WebSocket().set_mask_key(bytes), "random source"),
        (connect(fire_cont_frame=True), "received whole"),
        (connect(skip_utf8_validation=True), "always validated"),
        (run(skip_utf8_validation=True), "always validated"),
        (run(dispatcher=object()), "call run_forever\\(\\) without it"),
    ],
)
def test_what_cannot_be_supported_is_refused_at_the_call(call: Callable[[], object], advice: str) -> None:
    with pytest.raises(NotImplementedError, match=advice):
        call()


def test_callbacks_of_continuations_are_refused_when_they_were_assigned() -> None:
    app = websocket.WebSocketApp("ws://127.0.0.1:1")
    app.on_cont_message = print
    with pytest.raises(NotImplementedError, match="use on_message"):
        app.run_forever()


@pytest.mark.parametrize("method", ["send", "sendall", "recv"])
def test_the_socket_cannot_be_written_or_read(ws_server: StartServer, method: str) -> None:
    with closing(websocket.create_connection(ws_server().url, timeout=PATIENCE)) as ws:
        with pytest.raises(NotImplementedError, match=rf"^sock\.{method}\(\): .*; use "):
            getattr(ws.sock, method)(b"x")
        with pytest.raises(NotImplementedError, match=r"^sock\.makefile: "):
            ws.sock.makefile()
        assert not hasattr(ws.sock, "no_such_thing")


def test_unmasked_frames_and_reserved_bits_are_refused(ws_server: StartServer) -> None:
    abnf = websocket.ABNF
    with closing(websocket.create_connection(ws_server().url, timeout=PATIENCE)) as ws:
        for frame in (abnf(1, 0, 0, 0, 1, 0, b"x"), abnf(1, 1, 0, 0, 1, 1, b"x")):
            with pytest.raises(NotImplementedError, match="create_frame"):
                ws.send_frame(frame)
        with pytest.raises(ValueError, match="OPCODE_CONT"):
            ws.send_frame(abnf.create_frame(b"x", abnf.OPCODE_CONT))
        with pytest.raises(ValueError, match="opcode=5"):
            ws.send(b"x", 5)


def test_pings_are_answered_while_nobody_receives(ws_server: StartServer) -> None:
    server = ws_server([accept(), ping(b"1"), wait_for_pong(), send("answered"), wait_for_end()])
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        connection = server.connection(0)
        connection.wait_until(lambda: connection.pongs == [b"1"])
        assert ws.recv() == "answered"


def test_pings_are_answered_while_a_callback_runs(ws_server: StartServer) -> None:
    server = ws_server([accept(), send("1"), wait_for("busy"), ping(b"1"), wait_for_pong(), wait_for_end()])

    def on_message(app: websocket.WebSocketApp, message: str) -> None:
        app.send("busy")
        connection = server.connection(0)
        connection.wait_until(lambda: connection.pongs == [b"1"])
        app.close()

    assert websocket.WebSocketApp(server.url, on_message=on_message).run_forever() is False


def test_a_slow_program_slows_the_server_down(ws_server: StartServer) -> None:
    count, size = 80, 1024 * 1024
    server = ws_server([accept(), *(send(bytes(size)) for _ in range(count)), send("end"), wait_for_end()])
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        assert ws.recv() == bytes(size)
        connection = server.connection(0)
        seen = 1
        while (message := ws.recv()) != "end":
            assert message == bytes(size)
            seen += 1
            if seen == 2:
                assert len(connection.remaining) > 10  # it could not send everything
    assert seen == count


def test_a_full_backlog_is_not_a_slow_handler_and_delays_no_close(ws_server: StartServer) -> None:
    count, size = 40, 1024 * 1024
    server = ws_server([accept(), *(send(bytes(size)) for _ in range(count)), wait_for_end()])
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    link = ws._link
    assert link is not None
    reader = link.app._lochws.life._crew.reader  # type: ignore[union-attr]
    eventually(lambda: reader.is_pausing)
    began = monotonic()
    ws.close(timeout=60)
    assert monotonic() - began < 30
    assert ws.close_frame is not None


def test_close_wakes_a_thread_in_recv(ws_server: StartServer) -> None:
    ws = websocket.create_connection(ws_server().url)
    raised: list[BaseException] = []

    def receive() -> None:
        try:
            ws.recv()
        except websocket.WebSocketConnectionClosedException as error:
            raised.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    ws.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_close_cancels_an_attempt_of_another_thread(ws_server: StartServer) -> None:
    server = ws_server([wait_for_end()])
    ended: list[bool] = []
    app = websocket.WebSocketApp(server.url)
    thread = threading.Thread(target=lambda: ended.append(app.run_forever()))
    thread.start()
    server.connection(0)
    app.close()
    thread.join(PATIENCE)
    assert ended == [False]


def test_close_ends_the_wait_before_the_next_attempt() -> None:
    failed = threading.Event()
    app = websocket.WebSocketApp("ws://127.0.0.1:1", on_error=lambda *_: failed.set())
    thread = threading.Thread(target=lambda: app.run_forever(reconnect=3600))
    thread.start()
    assert failed.wait(PATIENCE)
    app.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_the_socket_of_another_thread_can_be_selected_until_it_is_closed(ws_server: StartServer) -> None:
    ws = websocket.create_connection(ws_server().url, timeout=PATIENCE)
    view = ws.sock
    assert view.fileno() >= 0
    ws.close()
    assert view.fileno() == -1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_the_child_of_a_fork_it_is_closed_and_in_the_parent_it_goes_on(ws_server: StartServer) -> None:
    output = run_python(f"""if True:
        import os, select
        from lochws.compat import websocket
        ws = websocket.create_connection({ws_server().url!r}, timeout={PATIENCE})
        ws.fileno()
        child = os.fork()
        if child == 0:
            try:
                ws.recv()
            except websocket.WebSocketConnectionClosedException as error:
                print(error, ws.sock.fileno(), flush=True)
            ws.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ws.send("on")
        assert select.select([ws], [], [], {PATIENCE})[0]
        print(ws.recv(), flush=True)
        ws.close()
    """)
    assert output == "not received: the WebSocket is not connected -1\non\n"


@pytest.mark.parametrize("take", ["take", "take_some"])
def test_a_signal_handler_may_close_wherever_it_interrupts_a_receiver(
    ws_server: StartServer, take: str
) -> None:
    server = ws_server(*[[accept(), send("1"), send("2"), wait_for_end()] for _ in range(120)])
    file = sys.modules[websocket._core.Link.__module__].__file__
    point, was_reached = 0, True
    while was_reached:
        point += 1
        ws = websocket.create_connection(server.url, timeout=PATIENCE)
        link = ws._link
        assert link is not None
        eventually(lambda link=link: len(link._items) == 2)  # type: ignore[misc]
        was_reached = enter(getattr(link, take), point, [file], link.discard)
        ws.close()
    assert point > 20


def test_a_payload_that_no_ping_can_have_is_refused() -> None:
    with pytest.raises(websocket.WebSocketException, match="ping_payload has 126 bytes"):
        websocket.WebSocketApp("ws://127.0.0.1:1").run_forever(ping_interval=1, ping_payload="x" * 126)


def test_a_websocket_is_a_context_manager(ws_server: StartServer) -> None:
    with websocket.create_connection(ws_server().url, timeout=PATIENCE) as ws:
        ws.send("x")
        assert ws.recv() == "x"
    assert not ws.connected


def test_an_offer_of_compression_among_the_headers_works(ws_server: StartServer) -> None:
    server = ws_server([accept(deflate=True), wait_for("x" * 500), send("y" * 500), wait_for_end()])
    header = ["Sec-WebSocket-Extensions: permessage-deflate"]
    with websocket.create_connection(server.url, timeout=PATIENCE, header=header) as ws:
        ws.send("x" * 500)
        assert ws.recv() == "y" * 500
        assert "permessage-deflate" in ws.headers["sec-websocket-extensions"]


def test_a_key_among_the_headers_does_no_harm(ws_server: StartServer) -> None:
    header = ["Sec-WebSocket-Key: k9kFAUWNAMmf5OEMfTlOEA=="]
    with closing(websocket.create_connection(ws_server().url, timeout=PATIENCE, header=header)) as ws:
        ws.send("x")
        assert ws.recv() == "x"


def test_a_message_above_the_limit_is_refused(ws_server: StartServer) -> None:
    class Small(websocket.WebSocket):
        max_message_size = 1000

    server = ws_server([accept(), send(bytes(2000)), wait_for_end()])
    ws = websocket.create_connection(server.url, timeout=PATIENCE, class_=Small)
    with pytest.raises(websocket.WebSocketProtocolException):
        ws.recv()
    connection = server.connection(0)
    connection.wait_until(lambda: connection.close_frame is not None)
    assert connection.close_frame is not None
    assert connection.close_frame[0] == 1009


def test_a_program_that_ends_has_sent_everything_and_is_silent(ws_server: StartServer) -> None:
    size = 2_000_000
    server = ws_server([accept(), wait_for_end()])
    output = run_python(f"""if True:
        from lochws.compat import websocket
        ws = websocket.create_connection({server.url!r})
        ws.send("x" * {size})
    """)
    assert not output
    connection = server.connection(0)
    connection.wait_until(lambda: connection.messages == ["x" * size])


def test_a_program_exits_although_a_thread_that_will_never_run_again_holds_the_lock(
    ws_server: StartServer
) -> None:
    # When the interpreter ends, daemon threads, such as those of lochws, stop wherever they happen to be.
    hold = """if True:
        import atexit, threading, time
        go, held = threading.Event(), threading.Event()
        atexit.register(lambda: go.set() or held.wait())  # called after what lochws registers
        from lochws.system.control import control_lock
        def hold():
            go.wait()
            with control_lock():
                held.set()
                time.sleep(1000)
        threading.Thread(target=hold, daemon=True).start()
    """
    output = run_python(f"""if True:
        exec({hold!r}, {{}})
        from lochws.compat import websocket
        ws = websocket.create_connection({ws_server().url!r})
        ws.send("hello")
        print(ws.recv())
    """)
    assert output == "hello\n"


def test_run_forever_leaves_closing_to_the_thread_that_closes(ws_server: StartServer) -> None:
    server = ws_server()
    opened = threading.Event()
    app = websocket.WebSocketApp(server.url, on_open=lambda _: opened.set())
    running = threading.Thread(target=app.run_forever)
    running.start()
    assert opened.wait(PATIENCE)
    close = app.sock.close

    def close_later(**kwargs: Any) -> None:
        if threading.current_thread() is not running:
            running.join(0.2)  # which could end, since keep_running is False by now
        close(**kwargs)

    app.sock.close = close_later
    app.close(status=4321, reason="from outside")
    running.join(PATIENCE)
    connection = server.connections[0]
    connection.wait_until(lambda: connection.close_frame is not None)
    assert connection.close_frame == (4321, "from outside")
