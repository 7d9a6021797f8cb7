"""Rules of the package's structure: layers, sizes, documentation and what users may import.

The tables below are the design of docs/architecture.md in a form that can be checked. Code that does not fit
them is wrong, or the design has changed: then change both in the same commit.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import lochws

#: From top to bottom. A part is a module at the top level of the package, or a folder. Imports point down.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"demo"},
    {"testing"},
    {"handlers", "compat", "fleet"},
    {"__init__"},
    {"conversation", "feed"},
    {"app", "persist"},
    {"diagnosis", "mailbox"},
    {"aio", "websocket"},
    {"life"},
    {"connection"},
    {"opening"},
    {"engine", "protocol", "transport", "dispatch"},
    {"system"},
    {
        "base", "clock", "codec", "counters", "errors", "events", "options", "response", "sent", "status",
        "text", "url", "version",
    },
]

#: The layer whose modules may import one another, as long as there is no cycle.
LEAVES = LAYERS[-1]

#: Upward imports for the type checker alone. They must stay under `if TYPE_CHECKING`.
TYPES_ONLY: set[tuple[str, str]] = set()

#: Imports that a part may not make even though the layers would allow them: protocol code is handed bytes and
#: the time, the threads know nothing of WebSocket, and the test server shares no code with what it tests.
FORBIDDEN = {
    "testing": {"lochws.protocol", "lochws.transport", "lochws.opening"},
    "protocol": {"asyncio", "selectors", "socket", "ssl", "threading", "time"},
    "engine": {"lochws.protocol", "lochws.transport", "lochws.dispatch"},
}

#: Names that look private but belong to the public interface of a NamedTuple or of zlib's type stubs.
PUBLIC_ALL_THE_SAME = {"_asdict", "_replace", "_Decompress"}

#: Programs, and modules that only tests and programs use: no call interrupts their imports.
PROGRAMS = ("__main__.py", "cli/", "demo.py", "testing/")

MAX_PARTS = 37
MAX_LEVELS = 16
MAX_FUNCTION_LINES = 60  # without its signature and docstring
MAX_METHODS = 30

#: Whole objects with more methods than that, and how many: one lock, or one script, guards all their state.
LARGER = {
    "SendQueue": 57, "Outgoing": 42, "WebSocket": 34, "Lifecycle": 48, "Connection": 33,
    "ServerConnection": 31, "Feed": 39,
}

PACKAGE = Path(lochws.__file__).parent
DOCS = PACKAGE.parent / "docs"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
MODULES = [file for file in FILES if file != "__main__.py"]  # importing __main__ may run it


@dataclass(frozen=True)
class Import:
    """The target of one import statement, such as ``lochws.protocol.frames`` or ``socket``."""

    file: str
    line: int
    target: str
    types_only: bool

    def __str__(self) -> str:
        return f"lochws/{self.file}:{self.line} imports {self.target}"


def parse(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"), file)


def module_name(file: str) -> str:
    """Name the module in a file: ``lochws.protocol`` for protocol/__init__.py."""
    return ".".join(["lochws", *file.removesuffix(".py").split("/")]).removesuffix(".__init__")


def part_of(module: str) -> str:
    """Name the part of the package that a module belongs to."""
    _, _, inside = module.partition(".")
    return inside.partition(".")[0] or "__init__"


def layer_of(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    pytest.fail(
        f"lochws/{part} has no layer: add it to LAYERS in this file and to docs/architecture.md"
    )


def imports_of(file: str) -> Iterator[Import]:
    tree = parse(file)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for target in targets(node, file):
                yield Import(file, node.lineno, target, id(node) in for_types)


def targets(node: ast.Import | ast.ImportFrom, file: str) -> list[str]:
    """List what an import statement names; a module imported from a package counts as that module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    # A relative import starts from its own package, and each dot after the first goes up one level.
    folders = ["lochws", *file.split("/")[:-1]]
    base = folders[: len(folders) - node.level + 1] if node.level else []
    origin = ".".join([*base, *filter(None, [node.module])])
    names = [f"{origin}.{alias.name}" for alias in node.names]
    return [name if is_module(name) else origin for name in names]


def is_module(name: str) -> bool:
    return any(module_name(file) == name for file in FILES)


def inner_imports(file: str) -> Iterator[tuple[str, str, Import]]:
    """Yield each import of one part of lochws by another: importer, imported part, import."""
    importer = part_of(module_name(file))
    for found in imports_of(file):
        if found.target.partition(".")[0] == "lochws" and part_of(found.target) != importer:
            yield importer, part_of(found.target), found


def graph_of_parts() -> dict[str, set[str]]:
    """Map each part to the parts it imports at run time."""
    graph: dict[str, set[str]] = {}
    for file in FILES:
        needed = graph.setdefault(part_of(module_name(file)), set())
        needed.update(imported for _, imported, found in inner_imports(file) if not found.types_only)
    return graph


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file: str) -> None:
    layer_of(part_of(module_name(file)))
    for importer, imported, found in inner_imports(file):
        if {importer, imported} <= LEAVES:
            continue
        if (importer, imported) in TYPES_ONLY and found.types_only:
            continue
        assert layer_of(importer) < layer_of(imported), f"{found}, which is not below it"


def test_no_imports_form_a_cycle() -> None:
    modules: dict[str, set[str]] = {}
    for file in FILES:
        needed = {found.target for found in imports_of(file) if not found.types_only}
        modules[module_name(file)] = {name for name in needed if is_module(name)}
    for graph in (modules, graph_of_parts()):
        TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_the_graph_of_parts_is_small_enough_to_remember() -> None:
    graph = graph_of_parts()
    levels: dict[str, int] = {}
    for part in TopologicalSorter(graph).static_order():
        levels[part] = 1 + max((levels[imported] for imported in graph[part]), default=0)
    assert len(graph) <= MAX_PARTS
    assert max(levels.values()) <= MAX_LEVELS, sorted(levels.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(PROGRAMS)])
def test_an_import_in_a_function_is_prepared_for_calls_that_interrupt_it(file: str) -> None:
    for function in ast.walk(parse(file)):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for body in (getattr(node, "body", []) for node in ast.walk(function)):
            for before, node in pairwise([None, *body] if isinstance(body, list) else []):
                if isinstance(node, ast.ImportFrom):
                    for target in set(targets(node, file)):
                        if target.startswith("lochws."):
                            assert before is not None, f"{file}:{node.lineno}"
                            assert ast.unparse(before) == f"ensure_whole({target!r})", f"{file}:{node.lineno}"


@pytest.mark.parametrize("file", FILES)
def test_nothing_forbidden_is_imported(file: str) -> None:
    forbidden = FORBIDDEN.get(part_of(module_name(file)), set())
    for found in imports_of(file):
        for module in forbidden:
            assert not f"{found.target}.".startswith(f"{module}."), str(found)


def test_only_the_test_server_imports_wsproto_and_h11() -> None:
    users = {
        part_of(module_name(file)) for file in FILES for found in imports_of(file)
        if found.target.partition(".")[0] in {"h11", "wsproto"}
    }
    assert users == {"testing"}


def test_the_tables_name_each_part_once() -> None:
    known = set().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(known), "a part is in two layers"
    assert known >= {part for pair in TYPES_ONLY for part in pair} | set(FORBIDDEN)
    assert known == {part_of(module_name(file)) for file in FILES}, "a part of the table does not exist"


#: Top-level modules that are not there to be imported: the command and the package's own contents.
NOT_IMPORTED = {"__init__.py", "__main__.py", "version.py", "demo.py"}
TOP_LEVEL = [file for file in FILES if "/" not in file and file not in NOT_IMPORTED]


@pytest.mark.parametrize("file", TOP_LEVEL)
def test_a_module_at_the_top_level_is_documented_for_users(file: str) -> None:
    module = module_name(file)
    exported = [
        f"lochws.{name}" for name in lochws.__all__
        if getattr(getattr(lochws, name), "__module__", None) == module
    ]
    reference = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    assert any(re.search(rf"\b{re.escape(name)}\b", reference) for name in [module, *exported]), (
        f"docs/reference mentions nothing of {module}: a module that users do not import belongs in a folder"
    )


#: All locks beside the control lock, and why no thread can wait for one forever, whatever a finalizer or a
#: signal handler calls while it is held. "Own threads" are those that no finalizer of the user's waits for.
LOCKS = {
    "system/control.py": "the control lock itself",
    "connection/sendqueue.py": "a call that interrupts lochws or holds the control lock leaves its message",
    "transport/stream.py": "a call that holds the control lock leaves it to the loop to send or shut down",
    "transport/layered.py": "likewise; one that interrupts lochws finds no room while a thread is inside",
    "engine/loop.py": "the baton: only the reader and its stand-in wait for it",
    "handlers/_parts/outbox_ledger.py": "a turnstile: waited for in slices, and left by such a call",
    "handlers/recorder.py": "a signal: only the writer's thread waits for it",
    "handlers/replies.py": "a signal: only the thread of the timeouts waits for it",
    "fleet/fleet.py": "a fleet refuses such a call, since it would wait for the scheduler",
    "fleet/keeper.py": "own threads and the worker's event loop; users' code has no access to it",
    "diagnosis/addresses.py": "own threads; diagnose() refuses such a call",
    "cli/bench.py": "a program of its own", "cli/load.py": "likewise", "cli/pipe.py": "likewise",
    "cli/screen.py": "likewise", "demo.py": "likewise",
    "testing/clock.py": "for tests: no finalizer waits for a virtual clock",
    "testing/event_log.py": "for tests, whose handlers wait for nothing else",
    "testing/server.py": "for tests: used by the server's threads and the test's own",
}
_LOCKING = {
    "Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Queue", "RLock", "Semaphore",
    "allocate_lock", "plain_lock", "reentrant_lock",
}


def locks_in(tree: ast.Module) -> Iterator[str]:
    """Yield each call that creates a lock, or something with a lock of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            module, _, last = name.rpartition(".")
            is_ours = module in ("", "threading", "queue", "_thread") and last in _LOCKING
            is_event = not module and last == "Event"  # of lochws.events
            if is_ours and not is_event and not (last == "Condition" and "_lock" in ast.unparse(node)):
                yield f"line {node.lineno}: {name}()"


@pytest.mark.parametrize("file", FILES)
def test_a_lock_beside_the_control_lock_is_on_the_list(file: str) -> None:
    found = list(locks_in(parse(file)))
    if file == "system/locks.py":
        return
    assert not found or file in LOCKS, (
        f"lochws/{file} has a lock of its own, {found[:1]}: a finalizer may run while it is held, and wait "
        "for the control lock, whose holder may wait for this one. Use control_lock(), or add it to LOCKS "
        "with the reason why that cannot happen"
    )
    assert found or file not in LOCKS, f"lochws/{file} has no lock of its own any more"


@pytest.mark.parametrize(
    "code",
    ["self._lock = threading.Lock()", "lock = reentrant_lock()", "threading.Condition()", "queue.Queue()",
     "x = threading.Condition(threading.RLock())", "threading.Event().wait(1)"],
)
def test_a_new_lock_is_noticed(code: str) -> None:
    assert list(locks_in(ast.parse(code)))


def test_threads_are_started_by_one_function() -> None:
    """`Thread.start` waits for the new thread, which a call that interrupts a section must not do."""
    starting = {
        file for file in FILES for node in ast.walk(parse(file))
        if isinstance(node, ast.Attribute) and node.attr == "start" and "hread" in ast.unparse(node.value)
    }
    assert starting - {"system/control.py"} <= {
        file for file in FILES if file.startswith(("testing/", "cli/", "fleet/", "demo"))
    }


HANDLERS = [file for file in FILES if file.startswith("handlers/")]


@pytest.mark.parametrize("file", HANDLERS)
def test_a_ready_made_handler_reaches_into_nothing_private(file: str) -> None:
    assert not list(reaches_into(parse(file))), f"lochws/{file} uses another object's private attributes"


def reaches_into(tree: ast.Module) -> Iterator[str]:
    """Yield each use of a private attribute of an object whose class is not defined in the same file."""
    own = {
        name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for name in private_names(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not is_private(node.attr):
            continue
        of = ast.unparse(node.value)
        if of not in {"self", "cls"} and (is_app(of) or node.attr not in own):
            yield f"line {node.lineno}: {of}.{node.attr}"


def private_names(of: ast.ClassDef) -> Iterator[str]:
    """Yield the methods that a class defines and the attributes that it assigns to itself."""
    for node in ast.walk(of):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
            yield node.attr


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC_ALL_THE_SAME


def is_app(expression: str) -> bool:
    return expression.rpartition(".")[2].strip("_") in {"app", "gate"}


@pytest.mark.parametrize(
    "code",
    ["app._lifecycle", "self._app._registry.wrap", "def f(gate): gate._life", "self._app.threads._crew",
     "class Metrics:\n    def f(self, app):\n        self._life = app._life"],
)
def test_reaching_into_an_app_is_noticed(code: str) -> None:
    assert list(reaches_into(ast.parse(code)))


#: Openings of a summary that are not allowed: riddles, pointers elsewhere, and "is no X".
OLD_VOICE = re.compile(
    r"(What|Where|How|When|Which|Who|Whom|Whether|Whose|As `|Else)\b"
    r"|.*(?<!\bthere )\b(is|are) no (?!longer|more)",
    re.IGNORECASE,
)


def summaries(file: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the first docstring line of a module, its classes and its functions."""
    for node in ast.walk(parse(file)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield getattr(node, "lineno", 1), docstring.splitlines()[0]


@pytest.mark.parametrize("file", FILES)
def test_a_module_begins_with_one_sentence_that_says_what_it_is(file: str) -> None:
    docstring = ast.get_docstring(parse(file))
    assert docstring, f"lochws/{file} has no docstring"
    first = docstring.splitlines()[0]
    assert first.endswith("."), f"lochws/{file}: {first!r} is not a full sentence on one line"
    assert not re.search(r"[.!?] [A-Z]", first), f"lochws/{file}: {first!r} is more than one sentence"


@pytest.mark.parametrize("file", FILES)
def test_a_summary_states_something(file: str) -> None:
    riddles = [f"line {line}: {first}" for line, first in summaries(file) if OLD_VOICE.match(first)]
    assert not riddles, f"lochws/{file}"


def undocumented(module: str) -> Iterator[str]:
    """Yield the public classes, functions and methods of a module without a docstring, own or inherited."""
    for name, thing in vars(importlib.import_module(module)).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module:
            continue
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not inspect.getdoc(thing):
            yield name
        if inspect.isclass(thing):
            for method in vars(thing):
                member = inspect.getattr_static(thing, method)
                is_ours = inspect.isroutine(member) or isinstance(member, property)
                if not method.startswith("_") and is_ours and not inspect.getdoc(getattr(thing, method)):
                    yield f"{name}.{method}"


@pytest.mark.parametrize("file", MODULES)
def test_every_public_name_has_a_docstring(file: str) -> None:
    assert not list(undocumented(module_name(file)))


def test_every_exported_name_exists_and_is_documented() -> None:
    for name in getattr(lochws, "__all__", []):
        if name not in {"__version__", "compiled"}:
            assert inspect.getdoc(getattr(lochws, name)), f"lochws.{name} has no docstring"


def test_the_package_itself_defines_nothing() -> None:
    defined = (ast.FunctionDef, ast.ClassDef)
    assert not [node.name for node in ast.walk(parse("__init__.py")) if isinstance(node, defined)]


@pytest.mark.parametrize("file", FILES)
def test_no_function_is_too_long(file: str) -> None:
    for node in ast.walk(parse(file)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = lines_of_code(node)
            where = f"lochws/{file}:{node.lineno}: {node.name}()"
            assert lines <= MAX_FUNCTION_LINES, f"{where} has {lines} lines without signature and docstring"


def lines_of_code(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    code = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (code[-1].end_lineno or 0) - code[0].lineno + 1 if code else 0


@pytest.mark.parametrize("file", FILES)
def test_no_class_has_too_many_methods(file: str) -> None:
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.ClassDef):
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            methods = {inner.name for inner in node.body if isinstance(inner, functions)}
            where = f"lochws/{file}:{node.lineno}: {node.name} has {len(methods)} methods"
            assert len(methods) <= LARGER.get(node.name, MAX_METHODS), f"{where}: it is more than one object"
