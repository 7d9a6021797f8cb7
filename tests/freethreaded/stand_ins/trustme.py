"""A stand-in for trustme, which needs packages that do not exist for a free-threaded Python 3.13.

The real trustme makes the certificates, in the Python that the variable ``TRUSTME_PYTHON`` names. Only what
the tests use is provided.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

_MAKER = """
import json, sys, trustme
from datetime import datetime
ask = json.load(sys.stdin)
pem = lambda blob: blob.bytes().decode()
of = lambda: trustme.CA.from_pem(ask["cert"].encode(), ask["key"].encode())
if ask["what"] == "authority":
    made = trustme.CA()
elif ask["what"] == "child":
    made = of().create_child_ca()
else:
    times = {name: datetime.fromisoformat(when) for name, when in ask["times"].items()}
    made = of().issue_cert(*ask["names"], **times)
if ask["what"] == "cert":
    said = {"key": pem(made.private_key_pem), "certs": list(map(pem, made.cert_chain_pems))}
else:
    said = {"key": pem(made.private_key_pem), "certs": [pem(made.cert_pem)]}
json.dump(said, sys.stdout)
"""


def _make(what: str, **ask: Any) -> dict[str, Any]:
    command = [os.environ["TRUSTME_PYTHON"], "-c", _MAKER]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    asked = json.dumps({"what": what, **ask})
    done = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True, check=True)
    made: dict[str, Any] = json.loads(done.stdout)
    return made


class Blob:
    """PEM data."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def bytes(self) -> bytes:
        return self._data

    def write_to_path(self, path: str | os.PathLike[str], append: bool = False) -> None:
        with Path(path).open("ab" if append else "wb") as file:
            file.write(self._data)

    @contextmanager
    def tempfile(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "data.pem"))
            self.write_to_path(path)
            yield path


class LeafCert:
    """A certificate with its key."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.private_key_pem = Blob(made["key"].encode())
        self.cert_chain_pems = [Blob(cert.encode()) for cert in made["certs"]]
        self.private_key_and_cert_chain_pem = Blob((made["key"] + "".join(made["certs"])).encode())

    def configure_cert(self, context: ssl.SSLContext) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "all.pem"
            self.private_key_and_cert_chain_pem.write_to_path(path)
            context.load_cert_chain(path)


class CA:
    """A certificate authority."""

    def __init__(self, _made: dict[str, Any] | None = None) -> None:
        made = _made or _make("authority")
        self._pems = {"cert": made["certs"][0], "key": made["key"]}
        self.cert_pem = Blob(self._pems["cert"].encode())
        self.private_key_pem = Blob(self._pems["key"].encode())

    def issue_cert(self, *names: str, **times: datetime) -> LeafCert:
        whens = {name: when.isoformat() for name, when in times.items()}
        return LeafCert(_make("cert", names=names, times=whens, **self._pems))

    def create_child_ca(self) -> CA:
        return CA(_make("child", **self._pems))

    def configure_trust(self, context: ssl.SSLContext) -> None:
        context.load_verify_locations(cadata=self._pems["cert"])
