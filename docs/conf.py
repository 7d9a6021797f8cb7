"""How the documentation becomes a site: ``python -m sphinx -W --keep-going -n docs build/docs``.

The pages are plain Markdown that reads well on a forge too. What the site needs besides is made here, while
the pages are read: tables of contents of the lists in `index.md`, pages of files that stand elsewhere, and
links that fit both.
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
#: Pages whose text stands outside of docs/, where people look for it.
ELSEWHERE = {
    "overview": "README.md",
    "changelog": "CHANGELOG.md",
    "examples": "examples/README.md",
    "measuring": "benchmarks/README.md",
    "reporting": "SECURITY.md",
}

project = "lochws"
author = "The lochws authors"
project_copyright = author
version = release = lochws.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code_or_link"
# The types in signatures are not ours, most of them. What pages link to is checked all the same.
nitpick_ignore_regex = [("py:.*", ".*")]

myst_heading_anchors = 4
myst_enable_extensions = ["fieldlist"]

autoclass_content = "class"
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
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
    """A page's text with the links that it has on the site.

    Args:
        text: the page.
        came_from: where its file stands.
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
    """The index with tables of contents: one for each list of pages under a heading, one for all other pages.

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
    """Make of a page's file what the site shows."""
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
    """What stands in single backticks in a docstring: code, and a link if lochws has something so called."""
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
    """Leave out what is for lochws's own use, and the methods that handlers have since they are handlers."""
    if name in vars(Handler) and name.startswith("on_"):
        return not getattr(thing, "__qualname__", "").startswith("Handler.")
    return True if name in {"forget", "attach", "detach", "private"} else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_role("code_or_link", code_or_link)
    app.connect("autodoc-skip-member", skip)
    app.connect("source-read", read)
