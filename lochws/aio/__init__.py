"""The bridge to asyncio: imported only by programs that use lochws from an event loop."""
