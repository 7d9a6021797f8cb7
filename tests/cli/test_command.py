"""The command line as a whole: errors are one sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import platform
import re
import signal
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
from lochws.cli.highlight import JSON_COLORS, MAX_JSON, colored, highlighted
from lochws.cli.manual import manual, roff
from lochws.cli.target import full_url
from lochws.testing import ScriptedServer, Step, accept, close, echo, send, silence, upgrade

from ..support.seen import PATIENCE
from .commands import COMMAND, environment, in_terminal, run

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
        (["dance"], "No such command 'dance'; if that is a host, write ws://dance"),
        (["conect", NOBODY], "No such command 'conect'. Did you mean connect?"),
        (["serv"], "Did you mean serve?"),
        (["--fast"], "No such option"),
        (["demo", "now"], "Got unexpected extra argument"),
        (["connect"], "Missing argument 'URL'"),
        (["connect", "--fast", NOBODY], "No such option"),
        (["connect", NOBODY, "ws://b/"], "Got unexpected extra argument"),
        (["connect", ""], "has no scheme"),
        (["-x", "hello"], "Missing argument 'URL'"),
        (["--color", "sometimes", "demo"], "sometimes"),
        (["completion", "csh"], "csh"),
        (["connect", "ftp://example.org"], "ftp"),
        (["connect", "ws://"], "URL"),
        (["connect", "ws://host:port"], "port"),
        (["connect", "ws://[::1"], "URL"),
        (["connect", "ws://a/\0"], "URL"),
        (["connect", "-H", "no colon", NOBODY], "expected 'Name: value'"),
        (["connect", "-H", "bad name: x", NOBODY], "not a valid HTTP token"),
        (["connect", "-H", "a: b\nc", NOBODY], "CR, LF or NUL"),
        (["connect", "-H", "Upgrade: x", NOBODY], "is part of the upgrade itself"),
        (["connect", "-s", "a b", NOBODY], "--subprotocol: 'a b' is not a valid HTTP token"),
        (["connect", "-s", "a", "-s", "a", NOBODY], "--subprotocol: 'a' is listed twice"),
        (["connect", "--auth", "a:b", "--origin", "x\ny", NOBODY], "CR, LF or NUL"),
        (["connect", "--proxy", "gopher://x", NOBODY], "gopher"),
        (["connect", "--cafile", "/no/such", "wss://127.0.0.1:1/"], "--cafile='/no/such': there is no"),
        (["connect", "--cert", "/no/such", "wss://127.0.0.1:1/"], "--cert='/no/such': there is no"),
        (["connect", "--key", "/no/such", "wss://127.0.0.1:1/"], "--key='/no/such' needs --cert"),
        (["connect", "--timeout", "soon", NOBODY], "'soon' is not a number of seconds"),
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
        def run_it(colors: bool | None) -> int:
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
        "def fail(colors): raise KeyError('here')\n"
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
    assert capsys.readouterr().err == "lochws: this command needs rich: pip install 'lochws[cli]'\n"


def test_ctrl_c_is_silent_and_130(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(KeyboardInterrupt())
    assert main(["demo"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["--version"], ["--help"], ["connect", "--help"], ["man"], ["completion", "bash"], ["demo"],
        ["serve", "--port", "0"], ["doctor", NOBODY], ["demo", "--serve", "--port", "0"],
    ],
    ids=" ".join,
)
def test_output_without_a_reader_is_silent_and_141(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *words], stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False,
        timeout=3 * PATIENCE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (Exit.NO_READER, b"")


@pytest.mark.parametrize("words", [["replay"], ["replay", "--messages"], ["replay", "--json"]])
def test_a_recording_whose_reader_leaves_ends_silently(words: list[str], tmp_path: Path) -> None:
    recording = tmp_path / "talk.jsonl"
    with ScriptedServer([accept(), *map(send, "abc"), close()]) as server:
        assert run("-q", "--wait", "inf", "--record", str(recording), server.url).code == 0
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *words, str(recording)], stdout=writer, stderr=subprocess.PIPE, env=environment(),
        check=False, timeout=3 * PATIENCE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (Exit.NO_READER, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell with pipes")
@pytest.mark.parametrize("hidden", ["", "click"])
def test_the_demo_in_a_pipe_that_is_cut_ends_silently(hidden: str) -> None:
    program = (
        f"import sys; sys.modules[{hidden!r}] = None\n"
        "from lochws.__main__ import main\n"
        "sys.exit(main(['demo']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("lochws ")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(3 * PATIENCE) == Exit.NO_READER


# Ctrl-C.


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Press Ctrl-C, and return the exit code and what was written to stderr."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=2 * PATIENCE)
    return process.returncode, errors


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *words], env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


needs_ctrl_c = pytest.mark.skipif(
    sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there"
)


@needs_ctrl_c
@pytest.mark.parametrize(
    "words",
    [
        ["connect"], ["-x", "hello"], ["--persist"], ["doctor"], ["doctor", "--json"], ["bench"],
        ["bench", "--json"],
    ],
    ids=" ".join,
)
def test_ctrl_c_on_a_server_that_does_not_answer_is_130(words: list[str]) -> None:
    with ScriptedServer([silence()]) as server, start(*words, server.url) as process:
        server.connection()
        code, errors = interrupted(process)
    assert code == Exit.INTERRUPTED
    lines = errors.splitlines()
    assert lines == [] or ("--persist" in words and all(line.startswith("lochws: ") for line in lines))


@needs_ctrl_c
@pytest.mark.parametrize("words", [["serve"], ["serve", "ticker"], ["demo", "--serve"]], ids=" ".join)
def test_ctrl_c_on_a_server_of_ours_is_130(words: list[str]) -> None:
    with start(*words, "--port", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ws://127.0.0.1:")
        assert interrupted(process) == (Exit.INTERRUPTED, "")


@needs_ctrl_c
def test_ctrl_c_on_an_established_connection_is_130_in_every_command() -> None:
    for words in (["--wait", "inf"], ["--wait", "inf", "-x", "a"], ["doctor"], ["bench", "--seconds", "60"]):
        script = [accept(), silence() if words == ["doctor"] else echo()]
        with ScriptedServer(script) as server, start(*words, server.url) as process:
            server.connection().wait_until(lambda: server.connection().state is not None)
            code, errors = interrupted(process)
        assert (code, errors) == (Exit.INTERRUPTED, ""), words


@needs_ctrl_c
def test_ctrl_c_between_two_attempts_is_130() -> None:
    with start("--persist", NOBODY) as process:
        assert process.stderr is not None
        while "reconnecting in" not in process.stderr.readline():
            pass
        assert interrupted(process)[0] == Exit.INTERRUPTED


@needs_ctrl_c
def test_ctrl_c_during_a_replay_is_130(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with ScriptedServer([accept(), close()]) as server:
        assert run("--wait", "inf", "--record", str(path), server.url).code == 0
    header, first, *others = path.read_text(encoding="utf-8").splitlines()
    lines = [header, re.sub(r'"at":[0-9.]+', '"at":0.0', first)]
    lines += [re.sub(r'"at":[0-9.]+', '"at":3600.0', line) for line in others]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    with start("replay", "--speed", "1", str(path)) as process:
        assert process.stdout is not None
        assert "connecting" in process.stdout.readline()
        assert interrupted(process) == (Exit.INTERRUPTED, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(("key", "code"), [("\x03", Exit.INTERRUPTED), ("\x04", Exit.USAGE)])
def test_ctrl_c_at_the_password_is_130(key: str, code: Exit) -> None:
    with in_terminal("-u", "joe", NOBODY) as screen:
        screen.wait_for("Password of joe:")
        if code is Exit.INTERRUPTED:  # the terminal is not the one that controls the process
            screen.process.send_signal(signal.SIGINT)
        else:
            screen.type(key)
        assert screen.end() == code
        assert "Traceback" not in screen.text


def test_a_password_that_cannot_be_asked_for_is_one_sentence() -> None:
    done = run("-u", "joe", NOBODY, start_new_session=True)
    assert done == (
        Exit.USAGE, "",
        "lochws: --auth has no password, and there is no terminal to ask for one: pass USER:PASSWORD\n",
    )


# Where the command may be left out.


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ws://host/", "ws://host/"), ("WSS://host", "WSS://host"), ("ftp://host", "ftp://host"),
        ("ws+unix:///run/s:/p", "ws+unix:///run/s:/p"),
        ("localhost:8765", "ws://localhost:8765"), ("localhost:8765/feed?a=b:c", "ws://localhost:8765/feed?a=b:c"),
        ("example.org", "ws://example.org"), ("example.org:443/x", "wss://example.org:443/x"),
        ("[::1]:8765", "ws://[::1]:8765"), (":8765", "ws://localhost:8765"),
        (":8765/feed", "ws://localhost:8765/feed"), ("", ""),
    ],
)
def test_a_url_may_omit_its_scheme_and_its_host(given: str, url: str) -> None:
    assert full_url(given) == url


@pytest.mark.parametrize("before", [[], ["-q"], ["-k", "-x", "hello"], ["--color", "never"]], ids=" ".join)
@pytest.mark.parametrize("after", [[], ["-x", "hello"]], ids=" ".join)
def test_a_url_alone_connects(before: list[str], after: list[str]) -> None:
    texts = [word for word in (*before, *after) if word == "hello"]
    with ScriptedServer() as server:
        words = (*before, f"{server.host}:{server.port}", *after)
        assert run(*words) == (0, "hello\n" * len(texts), "")
    assert server.messages == texts


def test_a_command_has_priority_over_a_host_of_its_name() -> None:
    assert run("man").output.startswith(".TH LOCHWS 1")


# Color.


def colors_of(*words: str, **env: str) -> bool:
    """Return whether a message that is JSON is printed in color, into a pipe."""
    with ScriptedServer([accept(), send('{"a": 1}'), close()]) as server:
        done = run(*words, "--wait", "inf", server.url, env=env)
    assert done.code == 0
    assert re.sub(r"\x1b\[[0-9;]*m", "", done.output) == '{"a": 1}\n'
    return "\x1b[" in done.output


@pytest.mark.parametrize(
    ("words", "env", "expected"),
    [
        ([], {}, False), (["--color", "always"], {}, True), (["connect", "--color", "always"], {}, True),
        (["--color", "always"], {"NO_COLOR": "1"}, True), (["--color", "never"], {}, False),
        (["--color", "always", "connect", "--color", "never"], {}, False),
    ],
)
def test_color_is_used_on_request(words: list[str], env: dict[str, str], expected: bool) -> None:
    assert colors_of(*words, **env) is expected


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(
    ("words", "env", "color"),
    [
        ([], {}, "blue"), ([], {"NO_COLOR": "1"}, "default"), (["--color", "never"], {}, "default"),
        (["--color", "always"], {"NO_COLOR": "1"}, "blue"),
    ],
)
def test_a_terminal_gets_json_in_color_unless_no_color_is_set(
    words: list[str], env: dict[str, str], color: str
) -> None:
    with (
        ScriptedServer([accept(), send('{"a": 1}'), echo()]) as server,
        in_terminal(*words, "-x", "hello", server.url, **{"NO_COLOR": "", **env}) as screen,
    ):
        assert screen.end() == 0
        screen.wait_for("hello")
        assert screen.color_of('"a"') == color
        assert screen.color_of("hello") == "default"


@pytest.mark.parametrize(
    "text", ['{"a": [1, -2.5e3, true, false, null, "x\\"y"], "": {}}', "[]", '[\n  {"k": "v: w"}\n]']
)
def test_the_parts_of_json_make_up_the_text(text: str) -> None:
    parts = highlighted(text)
    assert "".join(piece for _, piece in parts) == text
    assert {part for part, _ in parts} <= {"", *JSON_COLORS}


def test_each_part_of_json_has_its_style() -> None:
    parts = {piece: part for part, piece in highlighted('{"key": ["value", 1, true, null]}')}
    assert parts['"key"'] == "json.key"
    assert parts['"value"'] == "json.str"
    assert (parts["1"], parts["true"], parts["null"]) == ("json.number", "json.bool_true", "json.null")


@pytest.mark.parametrize(
    "text", ["", "hello", "1", '"text"', "{broken", "[" * 90_000, '["' + "x" * MAX_JSON + '"]'],
    ids=lambda text: text[:10],
)
def test_other_text_has_no_parts(text: str) -> None:
    assert highlighted(text) == []
    assert colored(text) == text


# Quiet.


@pytest.mark.parametrize(
    ("script", "code"),
    [([upgrade(503)], Exit.REFUSED), ([accept(), close(1011, "broken")], Exit.CLOSED_WITH_ERROR)],
)
@pytest.mark.parametrize("words", [["-q"], ["-q", "connect"], ["connect", "--quiet"]], ids=" ".join)
def test_quiet_says_nothing_and_keeps_the_exit_code(words: list[str], script: list[Step], code: Exit) -> None:
    with ScriptedServer(script) as server:
        assert run(*words, "--wait", "inf", server.url) == (code, "", "")


def test_quiet_keeps_mistakes_in_the_command_line() -> None:
    assert run("-q", "--count", "none", NOBODY).errors.startswith("lochws: Invalid value for '-n'")
    assert run("-q", "-s", "a b", NOBODY).errors.startswith("lochws: --subprotocol: 'a b' is not a valid")


# Completion and the manual page.


@pytest.mark.parametrize(
    ("shell", "start"),
    [("bash", "_lochws_completion()"), ("zsh", "#compdef lochws"), ("fish", "function _lochws")],
)
def test_the_shell_gets_a_script_for_completion(
    shell: str, start: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # click asks the bash on the PATH for its version.
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", staticmethod(lambda: None))
    assert main(["completion", shell]) == 0
    output = capsys.readouterr().out
    assert output.lstrip().startswith(start)
    assert "_LOCHWS_COMPLETE" in output


def completions(line: str) -> set[str]:
    """Return what a shell would offer at the end of a command line."""
    words = line.split(" ")
    done = run(env={
        "_LOCHWS_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
    })
    assert (done.code, done.errors) == (0, "")
    return set(done.output.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lochws d", {"plain,demo", "plain,doctor"}),
        ("lochws --col", {"plain,--color"}),
        ("lochws --color a", {"plain,always", "plain,auto"}),
        ("lochws connect --per", {"plain,--persist"}),
        ("lochws localhost:8765 --per", {"plain,--persist"}),
        ("lochws -k --per", {"plain,--persist"}),
        ("lochws :8765 --binary b", {"plain,base64"}),
        ("lochws :8765 --cafile ca", {"file,ca"}),
        ("lochws serve t", {"plain,ticker", "file,t"}),
        ("lochws completion f", {"plain,fish"}),
    ],
)
def test_commands_options_and_files_are_completed(line: str, offered: set[str]) -> None:
    assert completions(line) == offered


def test_the_manual_page_that_is_installed_is_that_of_the_commands() -> None:
    page = Path(lochws.__file__).parent.parent / "docs" / "man" / "lochws.1"
    assert manual(command.main) == page.read_text(encoding="utf-8"), "run: lochws man > docs/man/lochws.1"


def test_the_manual_page_has_every_command_every_option_and_every_exit_code() -> None:
    text = manual(command.main).replace("\\-", "-")
    context = click.Context(command.main)
    for name in command.main.list_commands(context):
        assert f".SS lochws {name} " in text
        found = command.main.get_command(context, name)
        assert found is not None
        for option in found.params:
            assert not isinstance(option, click.Option) or option.opts[-1] in text
    for code, meaning in MEANINGS.items():
        assert f".B {code.value}\n{meaning}" in text


def test_each_line_of_the_manual_page_is_a_text_or_begins_with_a_macro_of_man() -> None:
    macros = {"TH", "SH", "SS", "PP", "TP", "B", "br"}
    for line in manual(command.main).splitlines():
        assert line.strip(), "an empty line"
        assert not line.startswith("'")
        assert not line.startswith(".") or line[1:].split()[0] in macros


def test_a_text_for_roff_cannot_begin_a_macro() -> None:
    assert roff(".config and -x \\n") == r"\&.config and \-x \en"
    assert roff("'quoted' and `bold`") == r"\&'quoted' and \fBbold\fR"


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
