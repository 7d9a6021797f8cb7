"""Diagnosis of a connection: each step of opening it, with its result, its duration and advice.

`lochws.WebSocketApp.diagnose` returns a list of `Finding`; the command ``lochws doctor`` prints them.
"""

from .findings import Finding, Verdict

__all__ = ["Finding", "Verdict"]
