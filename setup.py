"""Builds lochws. All that is fixed stands in setup.cfg; this file is for the optional compiled part.

Where there is a compiler, the hot path gets its compiled twins; where there is none, or with
``LOCHWS_PURE_PYTHON=1``, the Python twins do the same work. They pass the same tests.
"""

import os

from setuptools import Extension, setup

extensions = []
if os.environ.get("LOCHWS_PURE_PYTHON") != "1":
    extensions.append(
        Extension(
            "lochws.protocol._compiled",
            [f"lochws/protocol/{name}.c" for name in ("_compiled", "_payload", "_scanning", "_utf8")],
            depends=["lochws/protocol/_parts.h"],
            optional=True,
        )
    )
    if os.name == "posix":
        extensions.append(Extension("lochws.system._calls", ["lochws/system/_calls.c"], optional=True))

setup(ext_modules=extensions)
