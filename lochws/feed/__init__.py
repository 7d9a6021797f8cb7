"""Feeds: one stream of events over several connections, which outlives each of them.

`Feed` is also exported as ``lochws.Feed``.
"""

from .feed import Feed
from .meter import Lag
from .status import FeedStatus, LegStatus, Switch
from .urls import UrlStatus

__all__ = ["Feed", "FeedStatus", "Lag", "LegStatus", "Switch", "UrlStatus"]
