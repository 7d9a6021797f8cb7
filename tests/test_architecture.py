"""Holds the package to its design: who may import whom, and how large and how documented things are.

The tables below are the design (docs/architecture.md) in a form that can be checked. Code that does not
fit them is wrong, or the design has changed: then change both.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lochws

#: Top to bottom. A part is a module or a folder of the package. Imports go to lower layers only.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"demo"},
    {"testing"},
    {"handlers"},
    {"__init__"},
    {"app", "persist"},
    {"websocket"},
    {"life"},
    {"connection"},
    {"opening"},
    {"engine"},
    {"protocol", "transport", "dispatch"},
    {"system"},
    {"clock", "errors", "events", "options", "response", "sent", "status", "text", "url", "version"},
]

#: The layer whose modules may import one another.
LEAVES = LAYERS[-1]

#: Imports inside one layer that are meant.
BESIDE: set[tuple[str, str]] = set()

#: Upward imports that exist for the type checker only, and must stay under `if TYPE_CHECKING`.
TYPES_ONLY: set[tuple[str, str]] = set()

#: What a part must not import whatever its layer. Protocol code is told the time and handed the bytes;
#: the threads know nothing of WebSocket; the server for tests shares no mistake with what it tests.
FORBIDDEN = {
    "testing": {"lochws.protocol", "lochws.transport", "lochws.opening"},
    "protocol": {"asyncio", "selectors", "socket", "ssl", "threading", "time"},
    "engine": {"lochws.protocol", "lochws.dispatch"},
}

#: What ready-made handlers share with the rest besides the names that every user has: how to check an
#: option, to wait so that no signal is lost, to live through a fork, to hide what is secret in a URL.
SHARED = {"clock", "dispatch", "options", "sent", "system", "text", "url", "version"}

#: Names that only look private: a method of every NamedTuple, and what type checkers call a class of zlib's.
PUBLIC_ALL_THE_SAME = {"_asdict", "_Decompress"}

#: The modules of users' names that they are made of.
FOR_USERS = {"__init__", "errors", "events", "life", "response", "status", "transport"}

MAX_FUNCTION_LINES = 50  # its parameters and docstring not counted

PACKAGE = Path(lochws.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
MODULES = [file for file in FILES if file != "__main__.py"]  # importing that one may run it


@dataclass(frozen=True)
class Import:
    """One import statement's target, such as ``lochws.protocol.frames`` or ``socket``."""

    file: str
    line: int
    target: str
    types_only: bool

    def __str__(self) -> str:
        return f"lochws/{self.file}:{self.line} imports {self.target}"


def parse(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"), file)


def module_name(file: str) -> str:
    """``lochws.protocol.frames`` for protocol/frames.py, ``lochws.protocol`` for protocol/__init__.py."""
    return ".".join(["lochws", *file.removesuffix(".py").split("/")]).removesuffix(".__init__")


def part_of(module: str) -> str:
    """The part of the package that a module belongs to."""
    _, _, inside = module.partition(".")
    return inside.partition(".")[0] or "__init__"


def layer_of(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    pytest.fail(
        f"lochws/{part} stands in no layer: give it its place in LAYERS of tests/test_architecture.py, "
        "and carry that into docs/architecture.md"
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
    """What an import statement names, a module imported from a package as that module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    # The package that a relative import starts from: each dot beyond the first goes one up.
    folders = ["lochws", *file.split("/")[:-1]]
    base = folders[: len(folders) - node.level + 1] if node.level else []
    origin = ".".join([*base, *filter(None, [node.module])])
    names = [f"{origin}.{alias.name}" for alias in node.names]
    return [name if is_module(name) else origin for name in names]


def is_module(name: str) -> bool:
    return any(module_name(file) == name for file in FILES)


def inner_imports(file: str) -> Iterator[tuple[str, str, Import]]:
    """Imports of one part of lochws by another, with the two parts."""
    importer = part_of(module_name(file))
    for found in imports_of(file):
        if found.target.partition(".")[0] == "lochws" and part_of(found.target) != importer:
            yield importer, part_of(found.target), found


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file: str) -> None:
    layer_of(part_of(module_name(file)))
    for importer, imported, found in inner_imports(file):
        if {importer, imported} <= LEAVES or (importer, imported) in BESIDE:
            continue
        if (importer, imported) in TYPES_ONLY and found.types_only:
            continue
        assert layer_of(importer) < layer_of(imported), f"{found}, which does not lie below"


def test_no_imports_go_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for file in FILES:
        needed = {found.target for found in imports_of(file) if not found.types_only}
        graph[module_name(file)] = {name for name in needed if is_module(name)}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("file", FILES)
def test_nothing_forbidden_is_imported(file: str) -> None:
    forbidden = FORBIDDEN.get(part_of(module_name(file)), set())
    for found in imports_of(file):
        for module in forbidden:
            assert not f"{found.target}.".startswith(f"{module}."), str(found)


def test_only_the_server_for_tests_is_made_of_wsproto() -> None:
    users = {
        part_of(module_name(file)) for file in FILES for found in imports_of(file)
        if found.target.partition(".")[0] in {"h11", "wsproto"}
    }
    assert users == {"testing"}


def test_every_design_table_names_parts_that_have_a_layer() -> None:
    known = set().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(known), "a part stands in two layers"
    assert known >= {part for pair in BESIDE | TYPES_ONLY for part in pair} | set(FORBIDDEN)


READY_MADE = [file for file in FILES if file.startswith("handlers/")]


@pytest.mark.parametrize("file", READY_MADE)
def test_a_ready_made_handler_could_be_users_code(file: str) -> None:
    parts = {imported for _, imported, _ in inner_imports(file)}
    assert parts <= SHARED | FOR_USERS, f"lochws/{file}: what users lack is missing in the public interface"
    assert not list(reaches_into(parse(file))), f"lochws/{file} reaches into another's private attributes"


def reaches_into(tree: ast.Module) -> Iterator[str]:
    """Where code uses a private attribute of something that is no class of its own file."""
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
    """The private attributes and methods that a class defines or assigns to itself."""
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
def test_a_reach_into_an_app_is_noticed(code: str) -> None:
    assert list(reaches_into(ast.parse(code)))


@pytest.mark.parametrize("file", FILES)
def test_a_module_begins_by_saying_what_it_is_in_one_sentence(file: str) -> None:
    docstring = ast.get_docstring(parse(file))
    assert docstring, f"lochws/{file} has no docstring"
    first = docstring.splitlines()[0]
    assert first.endswith("."), f"lochws/{file}: {first!r} is no full sentence on one line"
    assert not re.search(r"[.!?] [A-Z]", first), f"lochws/{file}: {first!r} is more than one sentence"


def undocumented(module: str) -> Iterator[str]:
    """Public classes, functions and methods defined in a module that have no docstring, inherited or own."""
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
        if name != "__version__":
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
            assert lines <= MAX_FUNCTION_LINES, f"{where} has {lines} lines besides parameters and docstring"


def lines_of_code(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    code = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (code[-1].end_lineno or 0) - code[0].lineno + 1 if code else 0
