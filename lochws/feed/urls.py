"""UrlChooser: which of several URLs the next connection of a feed uses, and how they have fared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..url import redacted, without_secrets


@dataclass(frozen=True)
class UrlStatus:
    """The health of one URL of a feed.

    Attributes:
        url: the URL, without credentials.
        opened: the number of connections to it whose session became ready.
        failures: the number of its failures in a row: attempts that failed, and connections that were lost.
        last_failure: how the last of them ended, in words; empty if there was none.
        cooling_for: seconds until it is tried again, unless no other URL can be tried either; 0 if it can be
            tried now.
    """

    url: str
    opened: int
    failures: int
    last_failure: str
    cooling_for: float


class _Record:
    __slots__ = ("failures", "last_failure", "opened", "until")

    def __init__(self) -> None:
        self.opened = self.failures = 0
        self.last_failure = ""
        self.until = 0.0


class UrlChooser:
    """Chooses URLs. Pure: times are passed in. For one thread at a time.

    Args:
        urls: the URLs, the most preferred first.
        cool_down: how long a URL that has failed is not tried, in seconds.
    """

    def __init__(self, urls: Sequence[str], cool_down: float) -> None:
        self._records = {url: _Record() for url in urls}
        self._cool_down = cool_down

    def choose(self, now: float, current: str | None = None, avoid: Collection[str] = ()) -> str:
        """Return the URL for the next connection.

        Args:
            now: the time, in seconds.
            current: the URL that was used last. It stays in use until it fails.
            avoid: URLs that other connections use. They are chosen only if no other can be tried.
        """
        available = [url for url, record in self._records.items() if record.until <= now]
        if not available:
            return min(self._records, key=lambda url: self._records[url].until)
        candidates = [url for url in available if url not in avoid] or available
        return current if current is not None and current in candidates else candidates[0]

    def can_try_another(self, now: float, url: str) -> bool:
        """Return whether there is a URL other than this one that is not cooling down."""
        return any(other != url and record.until <= now for other, record in self._records.items())

    def worked(self, url: str) -> None:
        """Note that a connection to this URL became ready."""
        record = self._records[url]
        record.opened += 1
        record.failures = 0
        record.until = 0.0

    def failed(self, url: str, now: float, why: str) -> None:
        """Note that an attempt failed or that a connection was lost; the URL cools down."""
        record = self._records[url]
        record.failures += 1
        record.last_failure = without_secrets(why)
        record.until = now + self._cool_down

    def report(self, now: float) -> dict[str, UrlStatus]:
        """Return the health of each URL, by the URL as it was passed."""
        return {
            url: UrlStatus(
                redacted(url), record.opened, record.failures, record.last_failure,
                max(0.0, record.until - now),
            )
            for url, record in self._records.items()
        }
