"""The targets of fuzzing, one file each: `TestOneInput` takes any bytes and fails if a promise is broken.

`TOKENS` are what an input is made of more often than chance would have it.
"""

from __future__ import annotations

#: Every target by its name, which is that of its file and of its folder in the corpus.
TARGETS = ("receiver", "handshake", "deflate", "url", "framing")
#: Those that reach the compiled part.
COMPILED = ("receiver", "framing")
