"""Sphinx's settings: ``python -m sphinx -W --keep-going -n docs build/docs`` makes the pages a site.

The pages are plain Markdown that a forge shows well, too. What only the site needs is added while the pages
are read: tables of contents from the lists in `index.md`, pages whose files are elsewhere, and links that fit
both.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

import lochws
from lochws.dispatch.handler import Handler

ROOT = Path(__file__).parent.parent
#: Pages whose text is in files outside of docs/, where people look for them.
ELSEWHERE = {
    "overview": "README.md",
    "changelog": "CHANGELOG.md",
    "examples": "examples/README.md",
    "benchmarks": "benchmarks/README.md",
    "measured": "benchmarks/MEASURED.md",
    "reporting": "SECURITY.md",
}

#: Classes whose members the reference has one by one.
WITH_MEMBERS = {f"lochws.{name}" for name in ("Backoff", "Deflate", "Rate", "State", "Status")}

project = "lochws"
author = "The lochws authors"
project_copyright = author
version = release = lochws.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code_or_link"
# Most types in signatures are not ours. The links of pages are checked all the same.
nitpick_ignore_regex = [("py:.*", ".*")]

myst_heading_anchors = 4
myst_enable_extensions = ["fieldlist"]

autoclass_content = "class"
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# Not preserved from the source: __signature__ has parameters that the source has only as **options.
autodoc_preserve_defaults = False
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"lochws {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "default"
pygments_dark_style = "monokai"


def on_the_site(text: str, came_from: Path) -> str:
    """Return a page's text with links that work on the site.

    Args:
        text: the page.
        came_from: its file.
    """
    pages = {ROOT / path: f"{name}.md" for name, path in ELSEWHERE.items()}

    def link(match: re.Match[str]) -> str:
        target = (came_from.parent / match[1]).resolve()
        if target in pages:
            return f"]({pages[target]}{match[2]})"
        if target.is_dir():
            return "](examples.md)"
        if target.is_relative_to(ROOT / "docs"):
            return f"]({target.relative_to(ROOT / 'docs')}{match[2]})"
        return f"](../{target.relative_to(ROOT)}{match[2]})"

    return re.sub(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)]*|)\)", link, text)


def with_contents(text: str, pages: set[str]) -> str:
    """Return the index with tables of contents: one per list of pages under a heading, one for other pages.

    Args:
        text: the index.
        pages: the names of all pages.
    """
    contents: list[tuple[str, list[str]]] = []
    for title, section in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        listed = re.findall(r"^\* \[(.*?)\]\(([\w/-]+)\.md\)", section, re.MULTILINE)
        pages -= {page for _, page in listed}
        contents.append((title, [f"{called} <{page}>" for called, page in listed]))
    contents.append(("More", sorted(pages - {"index"})))
    return text + "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(names) + "\n```\n"
        for title, names in contents
        if names
    )


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn a page's file into what the site shows."""
    if name in ELSEWHERE:
        file = ROOT / ELSEWHERE[name]
        source[0] = on_the_site(file.read_text(encoding="utf-8"), file)
        app.env.note_dependency(str(file))
    elif "/" not in name:
        source[0] = on_the_site(source[0], ROOT / "docs" / f"{name}.md")
    if name == "index":
        source[0] = with_contents(source[0], set(app.env.found_docs))


def code_or_link(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = ()
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Render single backticks in a docstring as code, with a link if lochws has something of that name."""
    code = nodes.literal(rawtext, text, classes=["py"])
    document = inliner.document.settings.env
    where = {"py:module": "lochws", **document.ref_context}
    link = pending_xref(
        rawtext, code, refdoc=document.docname, refdomain="py", reftype="obj",
        reftarget=text.removesuffix("()"), refexplicit=False, refwarn=False, **where,
    )
    return [link], []


def skip(
    _app: Sphinx, _what: str, name: str, thing: object, _skip: bool, _options: object
) -> bool | None:
    """Leave out members for internal use, and the methods that every handler inherits."""
    if name in vars(Handler) and name.startswith("on_"):
        return not getattr(thing, "__qualname__", "").startswith("Handler.")
    return True if name in {"attach", "detach", "private", "reset_after_fork"} else None


def shorten(
    _app: Sphinx, what: str, name: str, _thing: object, _options: object, lines: list[str]
) -> None:
    """Leave attributes out of a class's docstring if the page has each of them below it."""
    has_each = name.startswith("lochws.events.") or name in WITH_MEMBERS
    if what == "class" and has_each and "Attributes:" in lines:
        begin = lines.index("Attributes:")
        rest = lines[begin + 1:]
        end = next((at for at, line in enumerate(rest) if line and not line.startswith(" ")), len(rest))
        lines[begin:] = rest[end:]


def setup(app: Sphinx) -> None:
    """Connect the functions above; Sphinx calls this."""
    app.add_role("code_or_link", code_or_link)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", shorten, priority=1)  # before napoleon
    app.connect("source-read", read)
