"""The build of lochws: its optional compiled parts. Everything static is in setup.cfg.

With a C compiler the hot path is compiled. Without one, or with ``LOCHWS_PURE_PYTHON=1`` in the environment,
Python does the same work and passes the same tests. PyPy compiles that Python itself, and is slow to call C.
"""

import os
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

extensions = []
shared = glob("lochws/system/_*.h")
if os.environ.get("LOCHWS_PURE_PYTHON") != "1" and sys.implementation.name == "cpython":
    extensions.append(
        Extension(
            "lochws.protocol._compiled",
            [f"lochws/protocol/_{name}.c" for name in ("compiled", "payload", "pump", "scanning", "utf8")],
            depends=[*shared, *(f"lochws/protocol/_{name}.h" for name in ("frames", "parts"))],
            optional=True,
        )
    )
    if os.name == "posix" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        # The GIL protects its only stream. It needs zlib and its headers, which Windows does not have.
        source = "lochws/protocol/_inflating.c"
        extensions.append(
            Extension("lochws.protocol._inflating", [source], depends=shared, libraries=["z"], optional=True)
        )
        # These hold the GIL. Without one, Python's own calls take 0.75 of the time.
        sources = [f"lochws/system/_{name}.c" for name in ("calls", "dispatch", "turn", "waiting")]
        extensions.append(Extension("lochws.system._calls", sources, depends=shared, optional=True))
        sources = ["lochws/connection/_small.c", "lochws/connection/_ready.c"]
        headers = [*shared, "lochws/connection/_small.h", "lochws/protocol/_frames.h"]
        extensions.append(Extension("lochws.connection._small", sources, depends=headers, optional=True))
        source = "lochws/transport/_records.c"
        extensions.append(Extension("lochws.transport._records", [source], depends=shared, optional=True))

setup(ext_modules=extensions)
