"""`lochws doctor`: real situations, each with its finding and what to change."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
import trustme

from lochws import WebSocketApp
from lochws.__main__ import main
from lochws.cli.exits import Exit
from lochws.cli.shown import PARAMETERS, as_options
from lochws.diagnosis import Verdict, examination
from lochws.diagnosis.addresses import Address, call_within, try_all
from lochws.testing import ScriptedServer, Step, accept, close, fin, ignore_close, send_raw, silence, upgrade

from ..support.apps import echo
from ..support.peer import PING, Link, StartPeer
from ..support.seen import PATIENCE
from .commands import environment, in_terminal

Examine = Callable[..., tuple[int, dict[str, dict[str, str]]]]


@pytest.fixture
def examine(capsys: pytest.CaptureFixture[str]) -> Examine:
    """Run the doctor; returns the exit code, and the last finding of each step."""

    def run(*words: str) -> tuple[int, dict[str, dict[str, str]]]:
        code = main(["doctor", "--json", "--timeout", str(PATIENCE), *words])
        output = capsys.readouterr()
        assert not output.err
        assert output.out.isascii()
        return code, {one["phase"]: one for one in map(json.loads, output.out.splitlines())}

    return run


def test_every_step_of_a_good_server_is_ok(examine: Examine) -> None:
    with ScriptedServer([accept(protocol="chat", deflate=True)]) as server:
        code, steps = examine("-s", "chat", "--compress", server.url.replace("127.0.0.1", "localhost"))
    assert code == 0
    assert steps["name"]["result"].startswith("localhost: 1 IPv4")
    assert steps["IPv4"]["verdict"] == "ok"
    assert steps["upgrade"]["result"].startswith("101 Switching Protocols")
    assert steps["subprotocol"]["result"] == "chat"
    assert steps["extensions"]["result"] == "permessage-deflate"
    assert steps["latency"]["result"].startswith("5 pings, ")
    assert steps["close"]["result"] == "the server answered with code 1000"
    timed = {step for step, one in steps.items() if one["seconds"] is not None}
    assert timed >= {"name", "IPv4", "connect", "upgrade", "latency", "close"}


def test_a_dead_address_of_one_family_is_a_warning_while_the_other_works() -> None:
    with ScriptedServer() as server:
        dead = Address(socket.AF_INET6, ("::1", server.port, 0, 0))
        alive = Address(socket.AF_INET, (server.host, server.port))
        findings, good = try_all([dead, alive], 5)
    assert good == alive
    assert [(one.phase, one.verdict) for one in findings] == [("IPv6", Verdict.WARNING), ("IPv4", Verdict.OK)]
    assert findings[0].result.startswith(f"[::1]:{server.port}: ")
    assert "remove it from DNS" in findings[0].advice


def test_a_silent_address_has_a_time_limit() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = Address(socket.AF_INET, listener.getsockname())
        with socket.socket() as first, socket.socket() as second:
            # The kernel's queue is full: further connections get no answer.
            for sock in (first, second):
                sock.setblocking(False)
                sock.connect_ex(address.sockaddr)
            findings, good = try_all([address], 0.2)
    assert good is None
    assert findings[0].verdict is Verdict.FAILED
    assert "a firewall may" in findings[0].result


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_does_not_wait_for_a_silent_address() -> None:
    program = (
        "import socket, sys, lochws.diagnosis.addresses as tried\n"
        "tried.ADDRESS_SECONDS = 600\n"
        "print('trying', flush=True)\n"
        "tried.try_all([tried.Address(socket.AF_INET, ('127.0.0.1', int(sys.argv[1])))], 600)\n"
    )
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (first, second):  # which fill the kernel's queue
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        command = [sys.executable, "-c", program, str(listener.getsockname()[1])]
        with subprocess.Popen(
            command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "trying\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=2 * PATIENCE)
    assert errors.endswith("KeyboardInterrupt\n")


def test_a_look_up_that_takes_too_long_is_abandoned() -> None:
    over = threading.Event()
    with pytest.raises(TimeoutError):
        call_within(0.01, over.wait)
    over.set()


def test_a_name_that_does_not_exist(examine: Examine) -> None:
    code, steps = examine("ws://no-such-host.invalid/")
    assert code == Exit.NO_CONNECTION
    assert steps["name"]["verdict"] == "failed"
    assert steps["name"]["advice"] == "Check the spelling of the host, and this machine's DNS."


def test_a_port_where_no_process_listens(examine: Examine) -> None:
    code, steps = examine("ws://127.0.0.1:1/")
    assert code == Exit.NO_CONNECTION
    assert steps["IPv4"]["result"] == "127.0.0.1:1: connection refused: no process is listening there"
    assert list(steps) == ["IPv4"], "the problem is reported once"
    assert steps["IPv4"]["advice"].startswith("Check the host and port, and that the server is running")


def test_a_certificate_of_an_unknown_authority_is_read_all_the_same(
    examine: Examine, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    with ScriptedServer(tls=server_tls) as server:
        code, steps = examine(server.url)
        assert examine("--cafile", ca_file, server.url)[0] == 0
    assert code == Exit.NO_CONNECTION
    assert steps["TLS"]["result"].startswith("TLSv1")
    assert steps["certificate"]["result"].startswith("for localhost, 127.0.0.1")
    assert " days from now" in steps["certificate"]["result"]
    assert "unknown authority" in steps["connect"]["result"]
    assert steps["connect"]["advice"] == (
        "If you trust the authority that issued the certificate, pass its own certificate with --cafile."
    )


def test_an_expired_certificate_is_reported_once(
    examine: Examine, authority: trustme.CA, ca_file: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    expired = authority.issue_cert("localhost", "127.0.0.1", not_after=datetime(2020, 5, 17))  # noqa: DTZ001  trustme
    expired.configure_cert(context)
    with ScriptedServer(tls=context) as server:
        code, steps = examine("--cafile", ca_file, server.url)
    assert code == Exit.NO_CONNECTION
    assert steps["certificate"]["result"].endswith("; expired on 2020-05-17")
    assert "certificate" in steps["certificate"]["advice"]
    assert list(steps) == ["IPv4", "TLS", "certificate"], "the problem is reported once"


def test_the_authorities_that_a_server_sends_are_shown(
    examine: Examine, authority: trustme.CA, ca_file: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.create_child_ca().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with ScriptedServer(tls=context) as server:
        code, steps = examine("--cafile", ca_file, server.url)
    assert code == 0
    assert steps["chain"]["verdict"] == "note"
    assert steps["chain"]["result"].startswith("trustme v")
    assert "; valid until " in steps["chain"]["result"]


def test_a_certificate_for_another_host(examine: Examine, authority: trustme.CA, ca_file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    with ScriptedServer(tls=context) as server:
        code, steps = examine("--cafile", ca_file, server.url.replace("127.0.0.1", "localhost"))
    assert code == Exit.NO_CONNECTION
    assert steps["certificate"]["result"].startswith("for other.example;")
    assert "it is for another host" in steps["connect"]["result"]


def test_a_port_without_tls(examine: Examine, start_peer: StartPeer) -> None:
    peer = start_peer(lambda link: link.send(b"SSH-2.0-OpenSSH_9.2\r\n"))
    code, steps = examine(f"wss://{peer.authority}/")
    assert code == Exit.NO_CONNECTION
    assert list(steps) == ["IPv4", "TLS"], "the problem is reported once"
    assert steps["TLS"]["verdict"] == "failed"
    assert steps["TLS"]["advice"].startswith("Try ws:// instead of wss://")


def test_a_refusal_with_its_body_escaped_and_cut(examine: Examine) -> None:
    body = b"who are\n you?\x1b[2J" + b"x" * 5000
    with ScriptedServer([upgrade(status=401, body=body)]) as server:
        code, steps = examine(server.url)
    assert code == Exit.REFUSED
    assert steps["upgrade"]["result"].startswith("401 Unauthorized: who are you?\\x1b[2Jxxx")
    assert len(steps["upgrade"]["result"]) < 500
    assert steps["upgrade"]["advice"].startswith("Pass credentials: --auth user:password")


def test_what_a_server_says_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer([upgrade(status=403, body=b"\x1b[2J\x07[red]")]) as server:
        main(["doctor", server.url])
    output = capsys.readouterr().out
    assert r"403 Forbidden: \x1b[2J\x07[red]" in output
    assert "\x1b" not in output


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_does_not_speak_websocket(examine: Examine, answer: bytes) -> None:
    with ScriptedServer([send_raw(answer)]) as server:
        code, steps = examine(server.url)
    assert code == Exit.REFUSED
    assert list(steps.values())[-1]["advice"].startswith("Check the host and p")


def test_a_server_that_does_not_answer_the_close_frame(examine: Examine) -> None:
    with ScriptedServer([accept(), ignore_close()]) as server:
        code, steps = examine("--timeout", "1", server.url)
    assert code == Exit.LOST
    assert steps["close"]["verdict"] == "failed"
    assert steps["close"]["advice"].startswith("Tell the server's operator")


def flooding(link: Link) -> None:
    """Send pings without end, and no pong."""
    link.accept()
    with suppress(OSError):
        while True:
            link.send_frame(PING, b"and you?")


def test_a_server_that_does_not_answer_pings_is_given_up(
    examine: Examine, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "STEP_SECONDS", 0.2)  # where the command line sets no limit
    with ScriptedServer([accept(), silence()]) as server:
        urls = [server.url, start_peer(flooding).url]
        for url in urls:
            code, steps = examine("--timeout", "0", url)
            assert code == Exit.LOST
            assert list(steps)[-1] == "latency"
            assert steps["latency"]["result"] == "no pong within 0.2 s"


@pytest.mark.parametrize(
    ("code", "exit_code", "verdict"), [(1008, Exit.CLOSED_WITH_ERROR, "failed"), (1000, Exit.OK, "warning")]
)
def test_a_server_that_closes_first_is_quoted(
    examine: Examine, code: int, exit_code: Exit, verdict: str
) -> None:
    with ScriptedServer([accept(), close(code, "who are you?")]) as server:
        found, steps = examine(server.url)
    assert found == exit_code
    assert steps["close"]["verdict"] == verdict
    assert steps["close"]["result"].endswith(f"of 5 pongs, with code {code}: who are you?")
    assert steps["close"]["advice"].startswith("Ask the server's operator why it closes")


@pytest.mark.parametrize(
    ("step", "phase", "result"),
    [(fin(), "open", "of 5 pongs"), (send_raw(b"\xff\xff"), "protocol", "")],
)
def test_a_connection_that_is_lost_at_once_is_reported_once(
    examine: Examine, step: Step, phase: str, result: str
) -> None:
    with ScriptedServer([accept(), step]) as server:
        _, steps = examine(server.url)
    assert list(steps)[-2:] == ["extensions", phase]
    assert steps[phase]["verdict"] == "failed"
    assert steps[phase]["result"].endswith(result)


def test_an_address_with_a_zone_is_tried(examine: Examine) -> None:
    _, interface = socket.if_nameindex()[0]
    code, steps = examine("--timeout", "0.5", f"ws://[fe80::1%25{interface}]:1/")
    assert code == Exit.NO_CONNECTION
    assert steps["IPv6"]["verdict"] == "failed"


def refusing(link: Link) -> None:
    """Refuse as a proxy, with a body."""
    link.read_until(b"\r\n\r\n")
    link.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\n\r\nno games")
    link.finish()


def test_a_proxy_that_refuses_is_quoted(examine: Examine, start_peer: StartPeer) -> None:
    proxy = start_peer(refusing)
    code, steps = examine("--proxy", f"http://{proxy.authority}", "ws://example.org/")
    assert code == Exit.NO_CONNECTION
    assert list(steps) == ["proxy"]
    assert "403" in steps["proxy"]["result"]
    assert "use --proxy none" in steps["proxy"]["advice"]


@pytest.mark.parametrize("trust", ["--cafile", "--insecure", ""])
def test_behind_a_proxy_the_servers_certificate_is_shown_and_no_direct_connection_is_made(
    examine: Examine, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, trust: str
) -> None:
    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\n\r\n")
        link.start_tls(server_tls)
        echo(link)

    proxy = start_peer(script)
    own = {"--cafile": ["--cafile", ca_file], "--insecure": ["--insecure"], "": []}[trust]
    # No process listens there: a direct connection would fail.
    code, steps = examine("--proxy", f"http://{proxy.authority}", *own, "wss://localhost:1/")
    if trust:
        assert code == 0
        assert list(steps)[:3] == ["proxy", "TLS", "certificate"]
        read = "for localhost, 127.0.0.1" if trust == "--cafile" else "not read; its SHA-256 is "
        assert steps["certificate"]["result"].startswith(read)
    else:
        assert list(steps) == ["connect"]
        assert "unknown authority" in steps["connect"]["result"]


def test_a_proxy_that_does_not_listen(examine: Examine) -> None:
    code, steps = examine("--proxy", "http://127.0.0.1:1", "ws://example.org/")
    assert code == Exit.NO_CONNECTION
    assert list(steps) == ["proxy"]
    assert "Check the proxy's host and port" in steps["proxy"]["advice"]


def test_a_terminal_gets_a_table() -> None:
    with ScriptedServer() as server, in_terminal("doctor", server.url) as screen:
        assert screen.end() == 0
        screen.wait_for("the server answered with code 1000")
        assert screen.color_of("ok ") == "green"


def test_every_parameter_that_is_replaced_by_an_option_is_in_a_text_of_the_library() -> None:
    import lochws

    folder = Path(lochws.__file__).parent
    files = [path for path in folder.rglob("*.py") if path.parent.name != "cli"]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    ours = inspect.signature(WebSocketApp).parameters
    missing = [parameter for parameter in PARAMETERS if parameter not in text and parameter not in ours]
    assert missing == ["protocols: '"], "made of two texts: see the usage errors in test_command.py"


def test_no_advice_names_a_parameter_or_a_class() -> None:
    import lochws.opening.advice

    tree = ast.parse(Path(lochws.opening.advice.__file__).read_text(encoding="utf-8"))
    texts = [
        as_options(node.value) for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value[:1].isupper()
    ]
    ours = [name for name in inspect.signature(WebSocketApp).parameters if "_" in name]
    assert len(texts) > 40
    for text in texts:
        assert not re.search(rf"\b({'|'.join(ours)}|Backoff|no_proxy|append)\b|\w=|\w\(", text), text


#: What makes an nginx of a server, for those who look at its headers.
NGINX = {"Server": "nginx"}
FORWARD = "Configure the reverse proxy in front of the server to forward the Upgrade and Connection headers"


@pytest.mark.parametrize(
    ("step", "result", "advice"),
    [
        (upgrade(426, NGINX, "Upgrade Required"), "426 Upgrade Required (server: nginx)", FORWARD),
        (upgrade(400, {}, 'Can "Upgrade" only to "WebSocket".'),
         '400 Bad Request: Can "Upgrade" only to "WebSocket".', FORWARD),
        (upgrade(404, NGINX, "<html><title>404 Not Found</title>"), "404 Not Found (server: nginx)",
         "Check the path of the URL, and whether nginx forwards the Upgrade"),
        (upgrade(401, {"Content-Encoding": "gzip"}, gzip.compress(b'{"error": "token expired"}')),
         '401 Unauthorized: {"error": "token expired"}', "Pass credentials: --auth user:password"),
        (upgrade(403, {}, b"x" * 100_000), f"403 Forbidden: {'x' * 120}…", "Check credentials"),
    ],
    ids=["426", "400", "404", "gzip", "long"],
)
def test_a_refusal_is_reported_once_in_the_servers_words_with_advice(
    examine: Examine, step: Step, result: str, advice: str
) -> None:
    with ScriptedServer([step]) as server:
        code, steps = examine(server.url)
    assert code == Exit.REFUSED
    assert [name for name, one in steps.items() if one["verdict"] == "failed"] == ["upgrade"]
    assert steps["upgrade"]["result"] == result
    assert steps["upgrade"]["advice"].startswith(advice)


def test_ws_to_a_tls_port_is_told_to_try_wss(examine: Examine, server_tls: ssl.SSLContext) -> None:
    with ScriptedServer(tls=server_tls, history=False) as server:
        code, steps = examine(server.url.replace("wss:", "ws:"))
    assert code != 0
    assert [name for name, one in steps.items() if one["verdict"] == "failed"] == ["upgrade"]
    assert steps["upgrade"]["result"] == "the server expects TLS on this port"
    assert steps["upgrade"]["advice"] == "Try wss:// instead of ws://: this port expects TLS."


@pytest.mark.parametrize("case", ["ws to TLS", "wss to plain", "expired", "no Upgrade"])
def test_a_problem_is_one_line_and_q_prints_nothing_else(
    case: str, authority: trustme.CA, ca_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = None
    if case in ("ws to TLS", "expired"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ends = datetime(2020, 5, 17) if case == "expired" else None  # noqa: DTZ001  trustme's are naive
        authority.issue_cert("localhost", "127.0.0.1", not_after=ends).configure_cert(tls)
    script = [upgrade(426, NGINX, "Upgrade Required") if case == "no Upgrade" else accept()]
    with ScriptedServer(script, tls=tls, history=False) as server:
        place = f"{server.host}:{server.port}"
        url = f"{'wss' if case in ('wss to plain', 'expired') else 'ws'}://{place}/"
        assert main(["doctor", "-q", "--cafile", ca_file, url]) in {Exit.NO_CONNECTION, Exit.REFUSED}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("failed   ")
    assert {
        "ws to TLS": " → Try wss:// instead of ws://", "wss to plain": " → Try ws:// instead of wss://",
        "expired": "; expired on 2020-05-17 → Renew the server's certificate",
        "no Upgrade": f" (server: nginx) → {FORWARD}",
    }[case] in line


def test_q_prints_nothing_about_a_healthy_server(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer() as server:
        assert main(["doctor", "-q", server.url]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_server_that_speaks_http_2_is_named(examine: Examine) -> None:
    with ScriptedServer([send_raw(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80")]) as server:
        code, steps = examine(server.url)
    assert code == Exit.REFUSED
    (failed,) = [one for one in steps.values() if one["verdict"] == "failed"]
    assert failed["result"] == "the server speaks HTTP/2 on this port"
    assert "HTTP/1.1" in failed["advice"]
