"""Fixtures that start real programs, each once for all tests."""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from ..support.ports import free_port
from .programs import PATIENCE, Programs, find

#: The user that the proxies know. tinyproxy accepts only these characters.
USER, PASSWORD, PLAIN_PASSWORD = "me", "s3cr:t%20", "secret"
_REALM = "peers"


@dataclass(frozen=True)
class Certificate:
    """A certificate for localhost and 127.0.0.1, as files: alone, its key, and both in one."""

    certificate: Path
    key: Path
    both: Path

    @property
    def names(self) -> dict[str, object]:
        """Return the files by the names that configurations use."""
        return {"certificate": self.certificate, "key": self.key, "both": self.both}


#: Starts a proxy once and returns the part of its URL behind the credentials: ``127.0.0.1:port``.
StartProxy = Callable[..., str]


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    """Starts programs that run until all tests are over."""
    with Programs() as running:
        yield running


@pytest.fixture(scope="session")
def certificate(programs: Programs, authority: trustme.CA) -> Certificate:
    """A certificate as files that daemons can read."""
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    key = issued.private_key_pem.bytes()
    return Certificate(
        programs.write("cert.pem", chain),
        programs.write("key.pem", key),
        programs.write("both.pem", key + chain),
    )


@pytest.fixture(scope="session")
def echo(programs: Programs, certificate: Certificate) -> dict[str, int]:
    """An echo server made with websockets: its ports for ws and wss."""
    script = str(Path(__file__).parent / "echo.py")
    command = [sys.executable, script, "$port", "$port1", "$certificate", "$key"]
    return dict(zip(("ws", "wss"), programs.start(command, 2, **certificate.names), strict=True))


@pytest.fixture(scope="module")
def nobody() -> int:
    """A port on which nothing listens."""
    return free_port()


@pytest.fixture(scope="session")
def node_echo(programs: Programs, certificate: Certificate) -> dict[str, int]:
    """An echo server made with Node's ws, found through NODE_PATH; skips without them."""
    probe = [find("node"), "-e", "require('ws')"]
    if subprocess.run(probe, check=False, capture_output=True, timeout=PATIENCE).returncode:
        pytest.skip("Node's package ws is not installed (or NODE_PATH does not lead to it)")
    script = str(Path(__file__).parent / "echo.js")
    [ws] = programs.start(["node", script, "$port"])
    [wss] = programs.start(["node", script, "$port", "$certificate", "$key"], **certificate.names)
    return {"ws": ws, "wss": wss}


@pytest.fixture(scope="session")
def start_proxy(programs: Programs, certificate: Certificate) -> StartProxy:
    """Starts each proxy at most once: ``start_proxy(program, scheme, authentication)``."""
    started: dict[tuple[str, str], list[int]] = {}
    starters = {
        "squid": _start_squid,
        "tinyproxy": _start_tinyproxy,
        "dante": _start_dante,
        "microsocks": _start_microsocks,
        "OpenSSH": _start_ssh,
    }

    def start(program: str, scheme: str, authentication: str) -> str:
        known = (program, authentication)
        if known not in started:
            started[known] = starters[program](programs, certificate, authentication)
        ports = started[known]
        # Of squid's two ports, the second is the one with TLS.
        name, port = ("localhost", ports[1]) if scheme == "https" else ("127.0.0.1", ports[0])
        return f"{name}:{port}"

    return start


def _start_squid(programs: Programs, certificate: Certificate, authentication: str) -> list[int]:
    squid = find("squid")
    lines = ""
    if authentication == "Basic":
        # The digests of passwords are made here, so that no other program is needed.
        digest = subprocess.run(
            [find("openssl"), "passwd", "-apr1", "-stdin"], input=PASSWORD, text=True, check=True,
            capture_output=True,
        )
        passwords = programs.write("basic.passwords", f"{USER}:{digest.stdout}")
        lines = f"auth_param basic program {_helper(squid, 'basic_ncsa_auth')} {passwords}\n"
        lines += "auth_param basic children 1\n"
    elif authentication == "Digest":
        digest_text = hashlib.md5(f"{USER}:{_REALM}:{PASSWORD}".encode()).hexdigest()
        passwords = programs.write("digest.passwords", f"{USER}:{_REALM}:{digest_text}\n")
        lines = f"auth_param digest program {_helper(squid, 'digest_file_auth')} -c {passwords}\n"
        lines += f"auth_param digest realm {_REALM}\nauth_param digest children 1\n"
    access = "allow all"
    if lines:
        lines += "acl known proxy_auth REQUIRED\n"
        access = "allow known"
    command = ["squid", "-N", "-f", "$config"]
    values = {**certificate.names, "authentication": lines, "access": access}
    return programs.start(command, 2, config="squid.conf", **values)


def _helper(squid: str, name: str) -> str:
    for folder in ("lib/squid", "libexec/squid", "lib64/squid", "libexec"):
        helper = Path(squid).parent.parent / folder / name
        if helper.exists():
            return str(helper)
    pytest.skip(f"{name}, a part of squid, is not installed")


def _start_tinyproxy(programs: Programs, _: Certificate, authentication: str) -> list[int]:
    lines = f"BasicAuth {USER} {PLAIN_PASSWORD}" if authentication == "Basic" else ""
    command = ["tinyproxy", "-d", "-c", "$config"]
    return programs.start(command, config="tinyproxy.conf", authentication=lines)


def _start_dante(programs: Programs, _: Certificate, authentication: str) -> list[int]:
    assert authentication == "none", "its passwords are those of the system's users"
    user = pwd.getpwuid(os.getuid()).pw_name
    command = ["danted", "-N", "1", "-p", "$work/pid", "-f", "$config"]
    return programs.start(command, config="dante.conf", user=user)


def _start_microsocks(programs: Programs, _: Certificate, authentication: str) -> list[int]:
    command = ["microsocks", "-i", "127.0.0.1", "-p", "$port"]
    if authentication == "password":
        command += ["-u", USER, "-P", PASSWORD]
    return programs.start(command)


def _start_ssh(programs: Programs, _: Certificate, authentication: str) -> list[int]:
    """Start `ssh -D` to this machine: the SOCKS proxy that most people have."""
    assert authentication == "none"
    find("sshd")
    key = programs.folder / "ssh.key"
    command = [find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True, timeout=PATIENCE)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as the service does
    [port] = programs.start(["sshd", "-D", "-e", "-f", "$config"], config="sshd.conf", key=key)
    # Without questions, and without the known hosts of whoever runs the tests.
    options = "StrictHostKeyChecking=no UserKnownHostsFile=/dev/null BatchMode=yes ExitOnForwardFailure=yes"
    switches = [part for option in options.split() for part in ("-o", option)]
    where = ["-i", str(key), "-p", str(port), "127.0.0.1"]
    return programs.start(["ssh", "-F", "none", *switches, "-N", "-D", "127.0.0.1:$port", *where])


@pytest.fixture(scope="session")
def terminator(programs: Programs, certificate: Certificate, echo: dict[str, int]) -> Callable[[str], int]:
    """Starts nginx or haproxy once each, to end TLS in front of the echo server."""
    started: dict[str, int] = {}
    commands = {
        "nginx": (["nginx", "-p", "$work", "-c", "$config"], "nginx.conf"),
        "haproxy": (["haproxy", "-db", "-f", "$config"], "haproxy.cfg"),
    }

    def start(program: str) -> int:
        if program not in started:
            command, config = commands[program]
            values = {**certificate.names, "target": echo["ws"], "nobody": free_port()}
            [started[program]] = programs.start(command, config=config, **values)
        return started[program]

    return start


@pytest.fixture(scope="session")
def unforwarded(
    programs: Programs, certificate: Certificate, request: pytest.FixtureRequest
) -> Callable[[str], int]:
    """Starts a WebSocket server behind an nginx that does not forward Upgrade; returns nginx's port."""
    script = str(Path(__file__).parent / "web.py")

    def start(framework: str) -> int:
        if framework == "websockets":
            target = request.getfixturevalue("echo")["ws"]
        elif framework == "ws of Node":
            target = request.getfixturevalue("node_echo")["ws"]
        else:
            pytest.importorskip(framework)
            [target] = programs.start([sys.executable, script, framework, "$port"])
        command = ["nginx", "-p", "$work", "-c", "$config"]
        values = {**certificate.names, "target": target}
        return programs.start(command, 2, config="unforwarded.conf", **values)[0]

    return start
