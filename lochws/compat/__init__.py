"""Drop-in replacements: lochws behind the interfaces of other WebSocket clients."""

from .websocket import install

__all__ = ["install"]
