"""The command line as a whole: errors are one sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import platform
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

import lochws
from lochws.__main__ import main
from lochws.cli import command
from lochws.cli.exits import MEANINGS, Exit

from .commands import COMMAND, environment, run

#: A port where no process listens.
NOBODY = "ws://127.0.0.1:1/"


def test_version_shows_lochws_python_and_openssl(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    found = re.fullmatch(r"lochws (\S+) \((.*)\), (\w+) (\S+), (\w+SSL .*)\n", capsys.readouterr().out)
    assert found is not None
    kind = "compiled" if lochws.compiled else "pure Python"
    python = platform.python_implementation(), platform.python_version()
    assert found.groups() == (lochws.__version__, kind, *python, ssl.OPENSSL_VERSION)


@pytest.mark.parametrize("name", sorted(command.main.list_commands(click.Context(command.main))))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: lochws {name}")


def test_the_help_of_connect_lists_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    main(["connect", "--help"])
    output = capsys.readouterr().out
    assert set(MEANINGS) == set(Exit)
    for code, meaning in MEANINGS.items():
        assert f"{code.value}  {meaning}" in output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Missing command"),
        (["dance"], "No such command 'dance'"),
        (["--fast"], "No such option"),
        (["demo", "now"], "Got unexpected extra argument"),
        (["connect"], "Missing argument 'URL'"),
        (["connect", "--fast", NOBODY], "No such option"),
        (["connect", NOBODY, "ws://b/"], "Got unexpected extra argument"),
        (["connect", ""], "has no scheme"),
        (["connect", "example.org"], "has no scheme"),
        (["connect", "ftp://example.org"], "ftp"),
        (["connect", "ws://"], "URL"),
        (["connect", "ws://host:port"], "port"),
        (["connect", "ws://[::1"], "URL"),
        (["connect", "ws://a/\0"], "URL"),
        (["connect", "-H", "no colon", NOBODY], "expected 'Name: value'"),
        (["connect", "-H", "bad name: x", NOBODY], "not a valid HTTP token"),
        (["connect", "-H", "a: b\nc", NOBODY], "CR, LF or NUL"),
        (["connect", "-H", "Upgrade: x", NOBODY], "is part of the upgrade itself"),
        (["connect", "-s", "a b", NOBODY], "not a valid HTTP token"),
        (["connect", "-s", "a", "-s", "a", NOBODY], "'a' is listed twice"),
        (["connect", "--auth", "a:b", "--origin", "x\ny", NOBODY], "CR, LF or NUL"),
        (["connect", "--proxy", "gopher://x", NOBODY], "gopher"),
        (["connect", "--cafile", "/no/such", "wss://127.0.0.1:1/"], "--cafile='/no/such': there is no"),
        (["connect", "--cert", "/no/such", "wss://127.0.0.1:1/"], "--cert='/no/such': there is no"),
        (["connect", "--key", "/no/such", "wss://127.0.0.1:1/"], "--key='/no/such' needs --cert"),
        (["connect", "--timeout", "soon", NOBODY], "not a valid"),
        (["connect", "--timeout", "-1", NOBODY], "not in the range"),
        (["connect", "--timeout", "nan", NOBODY], "not a number"),
        (["connect", "--wait", "nan", NOBODY], "not a number"),
        (["connect", "--binary", "morse", NOBODY], "morse"),
        (["connect", "--count", "0", NOBODY], "not in the range"),
    ],
)
def test_an_invalid_command_line_is_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(words) == Exit.USAGE
    output = capsys.readouterr()
    assert not output.out
    assert output.err.startswith("lochws: ")
    assert sentence in output.err
    assert len(output.err.splitlines()) == 1


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make the command `demo` raise an exception."""

    def fail(error: BaseException) -> None:
        def run_it() -> int:
            raise error

        monkeypatch.setattr("lochws.demo.run", run_it)

    return fail


def test_an_unexpected_error_is_one_sentence_with_a_hint(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(KeyError("a\nb"))
    assert main(["demo"]) == Exit.FAILED
    errors = capsys.readouterr().err
    assert errors.startswith("lochws: KeyError: ")
    assert errors.endswith("this is a bug in lochws, and --debug shows the traceback\n")
    assert len(errors.splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    program = (
        "import sys, lochws.demo, lochws.__main__\n"
        "def fail(): raise KeyError('here')\n"
        "lochws.demo.run = fail\n"
        "sys.exit(lochws.__main__.main(['--debug', 'demo']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == Exit.FAILED
    assert "Traceback" in done.stderr
    assert "in fail" in done.stderr


def test_a_missing_package_is_named_with_its_extra(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(ModuleNotFoundError("No module named 'rich'", name="rich"))
    assert main(["demo"]) == Exit.FAILED
    assert capsys.readouterr().err == "lochws: this needs rich: pip install 'lochws[cli]'\n"


def test_ctrl_c_is_silent_and_130(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(KeyboardInterrupt())
    assert main(["demo"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == ""


def test_output_without_a_reader_is_silent_and_141() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "--version"], stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (Exit.NO_READER, b"")


def test_the_shell_gets_a_script_for_completion() -> None:
    done = run(env={"_LOCHWS_COMPLETE": "zsh_source"})
    assert done.code == 0
    assert done.output.startswith("#compdef lochws")


def test_the_command_leads_to_main() -> None:
    text = (Path(lochws.__file__).parent.parent / "setup.cfg").read_text(encoding="utf-8")
    assert "lochws = lochws.__main__:main" in text
    found = entry_points(group="console_scripts", name="lochws")
    assert all(point.load() is main for point in found)


def test_importing_the_command_line_loads_neither_rich_nor_prompt_toolkit() -> None:
    program = (
        "import sys, lochws.cli.command, lochws.cli.connect\n"
        "assert not {'rich', 'prompt_toolkit', 'websockets', 'asyncio'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True)
