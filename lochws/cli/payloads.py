"""Conversion between lines and messages: text, checked JSON, or binary in one of three notations."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

from .exits import Failed

#: The values of ``--binary``.
NOTATIONS = ("base64", "hex", "file")


class Payloads:
    """The formats that turn lines into messages, and messages into lines.

    Args:
        notation: how binary messages are written: ``"base64"``, ``"hex"``, or ``"file"`` for the names of
            files that contain them. None sends text messages; binary messages received are then written as
            Base64.
        checks_json: whether each line must be valid JSON.
        folder: the folder for the files of received messages, named ``message-000001.bin`` and so on.
    """

    def __init__(self, notation: str | None, *, checks_json: bool = False, folder: Path = Path()) -> None:
        self.notation = notation
        self._checks_json = checks_json
        self._folder = folder
        self._numbers = count(1)
        readers: dict[str, Callable[[bytes], bytes]] = {
            "base64": _from_base64, "hex": _from_hex, "file": _from_file,
        }
        writers: dict[str, Callable[[bytes], str]] = {
            "base64": _as_base64, "hex": bytes.hex, "file": self._as_file,
        }
        self._read = None if notation is None else readers[notation]
        #: Converts a binary message to a line, without its newline.
        self.written = writers[notation or "base64"]

    def message(self, line: bytes, where: str) -> str | bytes:
        """Convert a line to a message.

        Args:
            line: the line, without its newline.
            where: a description of the line, for error messages.

        Raises:
            Failed: the line cannot be converted.
        """
        try:
            if self._read is not None:
                return self._read(line)
            text = line.decode("utf-8")
            if self._checks_json:
                _check_json(text)
            return text
        except UnicodeDecodeError as error:
            fault = f"is not valid UTF-8 at byte {error.start}"
            raise Failed(f"{where} {fault}; use --binary to send bytes") from None
        except ValueError as error:
            raise Failed(f"{where} cannot be sent: {error}") from None
        except OSError as error:
            raise Failed(f"{where}: cannot read {error.filename}: {error.strerror}") from None

    def _as_file(self, data: bytes) -> str:
        while True:
            path = self._folder / f"message-{next(self._numbers):06}.bin"
            try:
                with path.open("xb") as file:  # never overwrites a file
                    file.write(data)
            except FileExistsError:
                continue
            except OSError as error:
                raise Failed(f"cannot write {path}: {error.strerror}") from None
            return str(path)


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not valid JSON: {error}") from None


def _as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(line: bytes) -> bytes:
    try:
        return base64.b64decode(line.strip(), validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is not valid Base64: {error}") from None


def _from_hex(line: bytes) -> bytes:
    try:
        return bytes.fromhex(line.decode("ascii"))
    except ValueError:
        raise ValueError("it is not valid hexadecimal: expected pairs of 0 to 9 and a to f") from None


def _from_file(line: bytes) -> bytes:
    return Path(line.decode("utf-8")).read_bytes()
