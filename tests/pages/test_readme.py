"""Tests of the README and all pages: programs and commands run as they are, and links lead somewhere.

The programs connect to wss://feed.example.org, which does not exist. Here the demo server takes its place,
and that of the server on port 8765. `tests.support.blocks` describes the kinds of blocks.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
import yaml

from lochws.demo import DemoServer
from lochws.testing import ScriptedServer, accept, send

from ..faults.registry import FAULTS
from ..support import protocols
from ..support.blocks import ELSEWHERE, NEEDS, PAGES, ROOT, Block, blocks, everywhere, whole
from ..support.pages import page, rows
from ..support.peer import CLOSE, TEXT, Link, StartPeer
from ..support.redis_server import RedisServer

FEED = "wss://feed.example.org"
#: The server that readers start themselves.
LOCAL = "ws://127.0.0.1:8765"
#: The ports of servers that programs start themselves.
PORTS = {"port=8765": "port=0", "start_http_server(8000)": "start_http_server(0)"}
PROXY = "http://proxy.example.org:3128"
#: Asked over HTTP by functions that are not called here.
API = "https://api.example.org"
REDIS = "redis://localhost:6379"
PRICE = '{"type": "ticker", "price": 64000.0}'
#: Seconds that a program may take on a machine with much else to do.
LIMIT = 60

PROGRAMS = [block for block in everywhere("python") if not (block.is_tests or block.is_cell)]
BY_NAME = {str(block): block for block in PROGRAMS}
#: The output of programs that wait for an echo before they close.
SHOWN = {
    "docs/tutorial.md-python-3": ["came back: hello"],
    "docs/many-connections.md-python-1": [f"{number} hello" for number in range(20)],
}
SERVICES = [block for block in PROGRAMS if "signal.SIGTERM, terminate" in block.text]
COMMANDS = [block for block in everywhere("sh") if block.commands]


@pytest.fixture
def feed(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Return what replaces the URLs of the pages, for the block of the parametrization and what it needs."""
    needs: frozenset[str] = request.getfixturevalue("block").needs
    with DemoServer(interval=0.05) as server:
        urls = {FEED: server.url.rstrip("/"), LOCAL: server.url.rstrip("/"), **PORTS}
        for need in needs:
            urls |= request.getfixturevalue(f"{need}_urls")
        yield urls


@pytest.fixture
def tls_urls(authority: trustme.CA, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Serve TLS with a certificate of a private authority, ``ca.pem``; the client's is ``client.pem``."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client = authority.issue_cert("device-17.example.org")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(context)
    authority.issue_cert("localhost").configure_cert(context)
    with ScriptedServer([accept(), send(PRICE)], tls=context) as server:
        yield {FEED: f"wss://localhost:{server.port}"}


@pytest.fixture
def asyncio_urls() -> dict[str, str]:
    """Require pytest-asyncio."""
    pytest.importorskip("pytest_asyncio")
    return {}


@pytest.fixture
def fastapi_urls() -> dict[str, str]:
    """Require FastAPI."""
    pytest.importorskip("fastapi")
    return {}


@pytest.fixture
def screen_urls(tmp_path: Path) -> dict[str, str]:
    """Provide a stand-in for tkinter, since there is no screen."""
    shutil.copy(Path(__file__).parents[1] / "screen/tkinter.py", tmp_path)
    return {}


@pytest.fixture
def proxy_urls(start_peer: StartPeer) -> dict[str, str]:
    """Run a proxy that lets everybody through and is the server as well."""

    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\n\r\n")
        link.accept()
        link.send_frame(TEXT, PRICE.encode())
        while (frame := link.read_frame())[0] != CLOSE:
            pass  # a ping, unless the program was faster
        link.send_frame(*frame)

    return {PROXY: f"http://{start_peer(script).authority}"}


@pytest.fixture
def mqtt_urls() -> Iterator[dict[str, str]]:
    """Run an MQTT broker, and a client that sends a heartbeat every tenth of a second."""
    with ScriptedServer([accept(protocol="mqtt"), protocols.mqtt]) as server:
        yield {FEED: server.url.rstrip("/"), "KEEP_ALIVE / 2": "0.1"}


@pytest.fixture
def stomp_urls() -> Iterator[dict[str, str]]:
    """Run a STOMP broker."""
    with ScriptedServer([accept(protocol="v12.stomp"), protocols.stomp]) as server:
        yield {FEED: server.url.rstrip("/")}


@pytest.fixture
def ocpp_urls() -> Iterator[dict[str, str]]:
    """Run an OCPP central system."""
    with ScriptedServer([accept(protocol="ocpp1.6"), protocols.ocpp]) as server:
        yield {FEED: server.url.rstrip("/")}


@pytest.fixture
def engineio_urls() -> Iterator[dict[str, str]]:
    """Run a Socket.IO server."""
    with ScriptedServer([accept(), protocols.engine_io]) as server:
        yield {FEED: server.url.rstrip("/")}


@pytest.fixture
def redis_urls(redis: RedisServer) -> dict[str, str]:
    """Run Redis."""
    return {REDIS: redis.url}


class Run:
    """A folder in which blocks of a page are run."""

    def __init__(self, urls: dict[str, str], folder: Path) -> None:
        self._urls = urls
        self._folder = folder
        tools = folder / "bin"
        tools.mkdir()
        for name, words in (("lochws", '-m lochws "$@"'), ("python", '"$@"')):
            (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}\n')
            (tools / name).chmod(0o755)
        self._environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        }

    def here(self, text: str) -> str:
        """Return a text with its URLs replaced."""
        for url, real in self._urls.items():
            text = text.replace(url, real)
        return text

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            command, cwd=self._folder, env=self._environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def to_its_end(self, *command: str, limit: float = LIMIT) -> tuple[int, str, str]:
        """Run a command and return its status, output and errors."""
        with self.start(*command) as process:
            try:
                output, errors = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, output, errors


@pytest.fixture
def run(feed: dict[str, str], tmp_path: Path) -> Run:
    """A folder in which the block's URLs are replaced."""
    return Run(feed, tmp_path)


@pytest.fixture
def program(run: Run, block: Block, tmp_path: Path) -> list[str]:
    """Return the command that runs the block as a program."""
    (tmp_path / "program.py").write_text(run.here(block.text), encoding="utf-8")
    return [sys.executable, "-u", "-W", "error", "program.py"]


@pytest.mark.parametrize("block", [block for block in PROGRAMS if not block.is_endless], ids=str)
def test_a_program_that_ends_by_itself_runs(block: Block, run: Run, program: list[str]) -> None:
    status, _, errors = run.to_its_end(*program)
    assert status == 0, errors
    if "logging.basicConfig" in block.text:
        errors = re.sub(r"^(.*\bINFO\b.*\n)+", "", errors)
    if "connect_fail" in block.text:  # what it handles is logged, too
        errors = re.sub(r"^wss?://\S+: unable to connect; .*\n", "", errors)
    assert not errors


@pytest.mark.parametrize("block", [BY_NAME[name] for name in SHOWN], ids=str)
def test_a_program_that_waits_for_answers_shows_them(block: Block, run: Run, program: list[str]) -> None:
    status, output, errors = run.to_its_end(*program)
    assert (status, errors) == (0, "")
    assert sorted(output.splitlines()) == sorted(SHOWN[str(block)])


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
@pytest.mark.parametrize("block", [block for block in PROGRAMS if block.is_endless], ids=str)
def test_a_program_that_runs_until_ctrl_c_does_so(block: Block, run: Run, program: list[str]) -> None:
    with run.start(*program) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT)
    if "suppress(KeyboardInterrupt)" in block.text:
        assert (process.returncode, errors) == (0, "")
    else:
        assert process.returncode == -signal.SIGINT, errors
        assert "\nKeyboardInterrupt\n" in errors


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM there")
@pytest.mark.parametrize("block", SERVICES, ids=str)
def test_a_service_closes_and_exits_with_0_on_sigterm(run: Run, program: list[str]) -> None:
    with run.start(*program) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.terminate()
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert "disconnected: we closed the connection: 100" in errors


@pytest.mark.timeout(4 * LIMIT)  # the tests of a whole page
@pytest.mark.parametrize("block", [block for block in everywhere("python") if block.is_tests], ids=str)
def test_tests_on_a_page_pass(block: Block, run: Run, tmp_path: Path) -> None:
    shutil.copy(ROOT / "conftest.py", tmp_path)  # it has the fixtures of lochws
    (tmp_path / "test_page.py").write_text(run.here(block.text), encoding="utf-8")
    # pytest-asyncio warns unless it is told the scope of a fixture's loop.
    scope = "asyncio_default_fixture_loop_scope=function"
    options = ["-o", scope] if "asyncio" in block.needs else ["-p", "no:asyncio"]
    options += ["-q", "-p", "no:cacheprovider", "-W", "error"]
    status, output, errors = run.to_its_end(
        sys.executable, "-m", "pytest", *options, "test_page.py", limit=3 * LIMIT
    )
    assert status == 0, output + errors


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_succeed(block: Block, run: Run, tmp_path: Path) -> None:
    commands = run.here("\n".join(block.commands))
    for limit in (2, 20):
        patient = commands.replace("timeout --signal INT 2 ", f"timeout --signal INT {limit} ")
        status, output, errors = run.to_its_end("bash", "-ec", patient)
        assert status == 0, output + errors
        if "KeyboardInterrupt" not in errors:
            break
        # The machine stalled, and Python was still starting.
        for made in tmp_path.glob("*.jsonl"):
            made.unlink()
    assert "Traceback" not in errors


READERS: dict[str, Callable[[str], object]] = {
    "ini": lambda text: configparser.ConfigParser(interpolation=None).read_string(text),
    "json": json.loads,
    "yaml": yaml.safe_load,
}


@pytest.mark.parametrize("block", [block for language in READERS for block in everywhere(language)], ids=str)
def test_files_on_a_page_can_be_read(block: Block) -> None:
    READERS[block.language](block.text)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_known_kind(page: str) -> None:
    found = list(blocks(page))
    fences = re.findall(r"^ *```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(found)
    for block in found:
        assert block.needs <= NEEDS, f"{block} needs something unknown"
        if block.language in {"", "text"}:
            has_commands = re.search(r"^(\$|lochws|python3?|pip) ", block.text, re.MULTILINE)
            assert not has_commands, f"{block} is sh"
            assert not block.marks, f"{block} is not run, so it cannot need anything"
        else:
            assert block.language in {"python", "sh", *READERS} or block.language.startswith("{"), block


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_connects_to_no_real_server(block: Block) -> None:
    known = (FEED, LOCAL, PROXY, API)
    asked = re.findall(r"\b(?:wss?|https?|socks\w*)://[^\s\"')]+", block.text)
    assert all(url.startswith(known) for url in asked if "@" not in url), asked


def test_the_first_two_commands_are_the_demo_and_the_tests() -> None:
    demo, tests, *_ = whole("README.md", "sh")
    assert demo.text.strip().endswith("python -m lochws demo")
    assert tests.text.strip().endswith("python -m pytest")
    assert demo.text.startswith(ELSEWHERE)


def test_the_readme_counts_right() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (faults,) = re.findall(r"over (\d+) faults", text)
    (failures,) = re.findall(r"over (\d+) kinds of failure", text)
    assert int(faults) < sum(map(len, FAULTS.values())) <= int(faults) + 30
    assert int(failures) < len(rows(page("failures.md"))) <= int(failures) + 30
    assert len(text.split()) <= 900


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: its headings, as forges and the site write them."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_inside_the_project_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), f"{page} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(file), f"{page} links to {target}#{anchor}: no such heading"


def test_the_page_on_architecture_names_every_part() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    parts = {path.relative_to(ROOT / "lochws").parts[0] for path in (ROOT / "lochws").rglob("*.py")}
    missing = [part for part in parts if part.removesuffix(".py") not in text]
    assert not missing
