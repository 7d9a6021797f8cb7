"""websocket-client's own tests of one module, over the drop-in or over the original.

Run it as ``python -m tests.compat.original_suite drop-in|original MODULE [PART PARTS]``. Prints what became
of each test, as one line of JSON.

The tests are those of the installed wheel. The servers on the internet that they know are replaced by a local
one of websockets, in the source, before it is compiled.
"""

from __future__ import annotations

import ast
import importlib
import io
import json
import os
import ssl
import sys
import tempfile
import threading
import types
import unittest
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import NoReturn

import trustme
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

#: The servers that the tests know, and where the local server takes their place.
SERVERS = {
    "wss://api-pub.bitfinex.com/ws/1": "{plain}greeting",
    "wss://api.bitfinex.com/ws/2": "{secure}greeting",
    "wss://tsock.us1.twilio.com/v3/wsconnect": "{plain}close",
    "ws://google.com/": "{plain}refuse",
    "ws://127.0.0.1:{LOCAL_WS_SERVER_PORT}": "{plain}echo",
    # Names that do not exist, which some resolvers take their time to find out.
    "ws://nonexistent.example.com": "ws://nonexistent.invalid",
    '"ws://example"': '"ws://example.invalid"',
}


def private(name: str) -> Callable[..., NoReturn]:
    """Return a function that stands for a private name of the original, so that it can be imported."""

    def use(*_: object, **__: object) -> NoReturn:
        raise NotImplementedError(f"{name} is private")

    return use


def add_private_names(source: str) -> None:
    """Add what a file imports from modules of the original and the drop-in does not have."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("websocket."):
            name = str(node.module)
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError:
                module = sys.modules[name] = types.ModuleType(name)
            for each in node.names:
                if each.name not in vars(module):
                    setattr(module, each.name, private(f"{name}.{each.name}"))


def cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Yield the tests of a suite."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases(each)
        else:
            assert isinstance(each, unittest.TestCase)
            yield each


class Results(unittest.TestResult):
    """The outcome of each test: "passed", "skipped", or its failure in one line."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}

    def addSuccess(  # noqa: N802  unittest's name
        self, test: unittest.TestCase
    ) -> None:
        """Note a success."""
        self.outcomes[name_of(test)] = "passed"

    def addSkip(  # noqa: N802  unittest's name
        self, test: unittest.TestCase, reason: str
    ) -> None:
        """Note a skipped test."""
        self.outcomes[name_of(test)] = "skipped"

    def addFailure(  # noqa: N802  unittest's name
        self, test: unittest.TestCase, err: object
    ) -> None:
        """Note a failure."""
        assert isinstance(err, tuple)
        self.outcomes[name_of(test)] = f"{err[0].__name__}: {err[1]}"[:300]

    addError = addFailure  # noqa: N815  unittest's name


def talk(connection: ServerConnection) -> None:
    """Do what the path says."""
    assert connection.request is not None
    path = connection.request.path
    if path == "/close":
        connection.close(4000, "enough")
    if path == "/greeting":
        connection.send("hello")
    for message in connection:
        connection.send(message)


def answer(_: ServerConnection, request: Request) -> Response | None:
    """Refuse some requests, as the servers on the internet do."""
    if request.path == "/refuse" or "CustomHeader1" in request.headers:
        return Response(404, "Not Found", Headers())
    return None


def start_servers() -> tuple[str, str]:
    """Start a server without TLS and one with it, in threads, and return their URLs."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(authority.cert_pem.bytes())
    os.environ["SSL_CERT_FILE"] = file.name  # an authority of the system
    urls = []
    for scheme, tls in (("ws", None), ("wss", context)):
        server = serve(talk, "localhost", 0, ssl=tls, process_request=answer,)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls.append(f"{scheme}://localhost:{server.socket.getsockname()[1]}/")
    return urls[0], urls[1]


def name_of(test: unittest.TestCase) -> str:
    """Return the name of a test, as ``Class.test_name``."""
    return ".".join(test.id().split(".")[-2:])


def main(which: str, module: str, part: str = "0", parts: str = "1") -> None:
    """Run the tests."""
    plain, secure = start_servers()
    if which == "drop-in":
        import lochws.compat.websocket

        lochws.compat.websocket.install()
    import websocket

    assert ("lochws" in str(websocket.__file__)) is (which == "drop-in")
    os.environ["LOCAL_WS_SERVER_PORT"] = "1"  # any number: the address is replaced
    os.environ["TEST_WITH_INTERNET"] = "1"
    path = Path(str(distribution("websocket-client").locate_file(f"websocket/tests/{module}.py")))
    source = path.read_text(encoding="utf-8")
    for theirs, ours in SERVERS.items():
        source = source.replace(theirs, ours.format(plain=plain, secure=secure))
    if which == "drop-in":
        add_private_names(source)
    tests = types.ModuleType(module)
    tests.__file__ = str(path)
    sys.modules[module] = tests
    exec(compile(source, str(path), "exec"), tests.__dict__)
    results = Results()
    out, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
    for number, test in enumerate(cases(unittest.defaultTestLoader.loadTestsFromModule(tests))):
        if number % int(parts) == int(part):
            test.run(results)
            for _ in range(2):  # some have limits of a second, which is short on a machine that is busy
                if results.outcomes[name_of(test)] != "passed":
                    test.run(results)
    out.write(json.dumps(results.outcomes) + "\n")
    out.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
