"""Dialling: one attempt to open a WebSocket, reported as events, with redirects, under one deadline."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from .. import errors, events
from ..base.records import changed, record
from ..options import Options, as_headers
from ..protocol.handshake import Agreement, HeadParser, check_response
from ..response import Response
from ..system.deadline import Cancelled, Deadline
from ..system.lazy import ensure_whole
from ..system.report import safe_str
from ..system.steps import Ready, Steps, Wait, must_propagate
from ..transport.connect import Connector
from ..transport.proxies.choose import ProxyURL, check_proxies, choose_proxy, may_block
from ..transport.stream import TLS, Stream
from ..transport.waiting import cause, loss, receive, send_all
from ..url import Endpoint, parse_url
from .advice import OR_TRY_WSS, UNFINISHED, advise
from .redirect import is_redirect, target
from .refusal import excerpt, read_body
from .request import Ask, Request, call_directly, prepare

_RECEIVE = 16 * 1024
# The number of bytes shown of an unfinished answer.
_SHOWN = 80
# A cookie's value, on continued lines too: errors are logged, and it may be a secret.
_COOKIE = rb"(?i)(\nset-cookie2?[ \t]*:)(?:[^\r\n]|\r?\n[ \t])*"
_HIDDEN = rb"\1 ***"


@record(frozen=True)
class Opened:
    """A WebSocket that has just opened. Its receiver owns the stream.

    Attributes:
        stream: the connection.
        response: the server's answer.
        agreement: what was negotiated.
        rest: bytes that arrived after the answer: the first frames.
        timings: the duration of each phase of the opening, in seconds.
        tls: the TLS parameters agreed on with the server, or None without TLS. TLS to a proxy does not count.
    """

    stream: Stream
    response: Response
    agreement: Agreement
    rest: bytes
    timings: Mapping[str, float] = MappingProxyType({})
    tls: TLS | None = None


T = TypeVar("T")
#: A part of an attempt: yields its waits and events.
Part: TypeAlias = Generator[Wait | events.Event, Ready, T]
#: A part that returns the open WebSocket, the Endpoint of a redirect, or None if the attempt has failed.
Hop: TypeAlias = Part[Opened | Endpoint | None]


class Dialler:
    """Opens the connections of one WebSocket, one attempt at a time.

    Args:
        options: the WebSocket's options.
        url: the URL to connect to, or a function that returns it for each attempt.
        added_headers: a function that returns checked headers, sent in addition to those of the options.

    Raises:
        TypeError, ValueError, FileNotFoundError: the URL, the proxies or the TLS options are invalid.
    """

    def __init__(
        self,
        options: Options,
        url: str | Callable[[], str],
        added_headers: Callable[[], tuple[tuple[str, str], ...]] = tuple,
    ) -> None:
        check_proxies(options.proxies)
        self._options = options
        self._url: Endpoint | Callable[[], str] = url if callable(url) else parse_url(url)
        is_secure = not isinstance(self._url, Endpoint) or self._url.is_secure
        self._connector = Connector(options, is_secure=is_secure)
        self._added_headers = added_headers

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint, or None if a function decides it for each attempt."""
        return None if callable(self._url) else self._url

    def dial(self, deadline: Deadline, ask: Ask = call_directly) -> Part[Opened | None]:
        """Make one attempt: yield its events, and what it waits for between them.

        The first event is Connecting, followed by another one for each redirect. If the attempt fails, the
        last event is ConnectFail or Disconnected. No connection is left open then, nor if the generator is
        closed early.

        Args:
            deadline: the time limit for the whole attempt; cancelling it ends the attempt at once. The caller
                closes it.
            ask: calls the functions that were passed as options.

        Returns:
            The open WebSocket, or None if the attempt failed.
        """
        attempt = _Attempt(self._options, self._connector, deadline, ask, self._added_headers())
        return (yield from attempt.run(self._url))


class _Attempt:
    """One attempt: the connection to the WebSocket's own URL, and those to the targets of redirects."""

    def __init__(
        self,
        options: Options,
        connector: Connector,
        deadline: Deadline,
        ask: Ask,
        added_headers: tuple[tuple[str, str], ...],
    ) -> None:
        self._ask = ask
        self._added_headers = added_headers
        self._options = options
        self._connector = connector
        self._deadline = deadline
        self._redirects = 0
        deadline.limit_phases(options.phase_timeouts)

    def run(self, url: Endpoint | Callable[[], str]) -> Part[Opened | None]:
        """Make the attempt, following redirects: yield its events, and return the open WebSocket or None."""
        try:
            first = url if isinstance(url, Endpoint) else parse_url((yield from self._ask("url", url)))
        except BaseException as error:
            if must_propagate(error):
                raise
            yield events.Connecting("")  # there is no URL to show
            yield unprepared(error)
            return None
        outcome: Opened | Endpoint | None = first
        home = True
        while isinstance(outcome, Endpoint):
            # No secrets are sent after a detour through another origin, which may have chosen the path.
            home = home and outcome.origin == first.origin
            outcome = yield from self._hop(outcome, home)
        return outcome

    def _hop(self, endpoint: Endpoint, home: bool) -> Hop:
        """Connect to one endpoint and request the upgrade."""
        yield events.Connecting(str(endpoint))
        try:
            added = self._added_headers
            preparing = prepare(self._options, endpoint, home=home, ask=self._ask, added_headers=added)
            request = yield from preparing
        except BaseException as error:
            if must_propagate(error):
                raise
            yield unprepared(error, self._deadline.timings)
            return None
        try:
            proxy = yield from self._proxy(endpoint)
            stream = yield from self._connector.open(endpoint, proxy, self._deadline, home=home)
        except errors.ConnectFail as fail:
            yield self._failed(fail)
            return None
        try:
            return (yield from self._upgrade(stream, request, proxy))
        except BaseException:
            stream.close()
            raise

    def _proxy(self, endpoint: Endpoint) -> Steps[ProxyURL | None]:
        options = self._options
        if endpoint.unix or options.unix or options.sock or options.connect:
            return None
        try:
            given = options.proxies
            if callable(given):
                url = str(endpoint)
                answer = yield from self._ask("proxies", partial(given, url), key=url)
                proxy = choose_proxy(endpoint, lambda _: answer)
            elif may_block(given):
                choosing = partial(choose_proxy, endpoint, given)
                proxy = yield from self._ask("proxies", choosing, key=str(endpoint))
            else:
                proxy = choose_proxy(endpoint, given)
            if proxy is None:
                return None
            headers = options.proxy_headers
            if callable(headers):
                headers = as_headers((yield from self._ask("proxy_headers", headers)))
            return changed(proxy, headers=headers, auth=options.proxy_auth, agent=options.agent)
        except Cancelled:
            raise errors.ConnectFail("closed while connecting", phase="proxy") from None
        except BaseException as error:  # from the environment, or from the user's function
            if must_propagate(error):
                raise
            text = f"unable to connect to proxy; {cause(error)}"
            raise errors.ConnectFail(text, phase="proxy") from error

    def _upgrade(self, stream: Stream, request: Request, proxy: ProxyURL | None) -> Hop:
        """Upgrade the stream, or close it and yield the final event."""
        address = stream.address
        self._deadline.enter("upgrade")
        try:
            yield from send_all(stream, request.data, self._deadline)
        except (OSError, Cancelled) as error:
            stream.close()
            yield self._failed(_unwritten(error, address))
            return None
        yield events.Connected(str(request.endpoint), None if proxy is None else str(proxy))
        parser = HeadParser()
        response = yield from self._answer(stream, request, parser)
        if response is None:
            return None
        try:
            elsewhere = self._elsewhere(request, response)
            if elsewhere is not None:
                stream.close()
                return elsewhere
            agreement = check_response(response, request.key, request.protocols, self._options.deflate)
            if self._options.require_protocol and agreement.protocol is None:
                raise _no_protocol(request.protocols)
        except errors.HandshakeError as error:
            response.body = yield from read_body(stream, response, parser.surplus, self._deadline)
            stream.close()
            words = excerpt(response) if response.status_code != 101 else ""
            reason = f"{error}: {words}" if words else str(error)
            yield self._rejected(reason, response, error, address)
            yield self._lost(reason, "server", error, address, response)
            return None
        is_end_to_end = proxy is None or request.endpoint.is_secure
        tls = stream.agreed() if is_end_to_end else None
        return Opened(stream, response, agreement, parser.surplus, self._deadline.timings, tls)

    def _answer(self, stream: Stream, request: Request, parser: HeadParser) -> Part[Response | None]:
        """Read the answer and keep its cookies; or close the stream, yield the final event, return None."""
        address, is_secure = stream.address, request.endpoint.is_secure
        try:
            response = yield from _read_head(stream, parser, self._deadline)
        except errors.HandshakeError as error:
            stream.close()
            yield events.ProtocolError(str(error), critical=True)
            yield self._lost(str(error), "server", error, address)
            return None
        except (OSError, EOFError, Cancelled) as error:
            stream.close()
            yield self._interrupted(error, address, parser.unfinished, is_secure=is_secure)
            return None
        if self._options.cookies is None:
            return response
        ensure_whole("lochws.opening.cookies")
        from .cookies import keep_cookies  # noqa: PLC0415  imports urllib.request and email, rarely needed

        try:
            keeping = partial(keep_cookies, self._options.cookies, response, request.endpoint)
            yield from self._ask("cookies", keeping, key=response)
        except (TimeoutError, RuntimeError, Cancelled) as error:
            stream.close()
            if isinstance(error, Cancelled):
                yield self._interrupted(error, address, b"", is_secure=is_secure)
            else:
                yield self._lost(f"cookies were not kept: {cause(error)}", "client", error, address)
            return None
        return response

    def _elsewhere(self, request: Request, response: Response) -> Endpoint | None:
        """Return the endpoint of a redirect; None if this is not one, or redirects are not followed.

        Raises:
            HandshakeError: this redirect is not followed; the message says why.
        """
        options = self._options
        if not options.max_redirects or not is_redirect(response):
            return None
        try:
            endpoint = target(request.endpoint, response)
        except ValueError as error:
            raise errors.HandshakeError(str(error)) from error
        if options.sock is not None:
            raise errors.HandshakeError("redirect not followed: the given socket reaches only one server")
        if options.unix is not None and endpoint.origin != request.endpoint.origin:
            raise errors.HandshakeError("redirect not followed: it leads away from the Unix socket")
        if self._redirects == options.max_redirects:
            raise errors.HandshakeError(f"redirect not followed: {self._redirects} were already followed")
        self._redirects += 1
        return endpoint

    # Events for failures.

    def _failed(self, fail: errors.ConnectFail) -> events.ConnectFail:
        advice = "" if self._deadline.is_cancelled else advise(fail.phase, fail)
        return events.ConnectFail(
            str(fail), phase=fail.phase, address=fail.address, error=fail, advice=advice,
            timings=self._deadline.timings, response=fail.response,
        )

    def _rejected(
        self, reason: str, response: Response, error: errors.HandshakeError, address: str
    ) -> events.Rejected:
        return events.Rejected(
            response, reason, address=address, error=error, advice=advise("upgrade", error, response),
            timings=self._deadline.timings,
        )

    def _interrupted(
        self, error: Exception, address: str, begun: bytes, *, is_secure: bool
    ) -> events.Disconnected:
        """Create the final event for an answer that is missing or incomplete."""
        if isinstance(error, Cancelled):
            return self._lost("closed during the upgrade", "client", None, address)
        behind = None if isinstance(error, EOFError) else error
        is_late = isinstance(error, TimeoutError)
        why = cause(error) if is_late else loss(behind)
        if not begun:
            reason = f"no answer to the upgrade request: {why}" if is_late else why
            # A TLS server hangs up on plain text, often without an alert, but so do others.
            advice = "" if is_late or is_secure else OR_TRY_WSS
            return self._lost(reason, "network", behind, address, advice=advice)
        shown = f"unfinished answer, beginning with {re.sub(_COOKIE, _HIDDEN, begun[:_SHOWN])!r}"
        unfinished = errors.HandshakeError(shown)
        unfinished.__cause__ = behind
        return self._lost(f"{shown}: {why}", "network", unfinished, address, advice=UNFINISHED)

    def _lost(
        self,
        reason: str,
        ended_by: events.EndedBy,
        error: BaseException | None,
        address: str,
        response: Response | None = None,
        advice: str = "",
    ) -> events.Disconnected:
        if ended_by != "client" and not advice:
            advice = advise("upgrade", error, response)
        return events.Disconnected(
            reason, phase="upgrade", ended_by=ended_by, error=error, address=address, advice=advice,
            timings=self._deadline.timings,
        )


def _read_head(stream: Stream, parser: HeadParser, deadline: Deadline) -> Steps[Response]:
    while parser.head is None:
        data = yield from receive(stream, _RECEIVE, deadline)
        if not data:
            raise EOFError
        parser.feed(data)
    return Response(parser.head)


def unprepared(error: BaseException, timings: Mapping[str, float] | None = None) -> events.ConnectFail:
    """Create the final event of an attempt that failed before anything was sent."""
    if isinstance(error, Cancelled):
        return events.ConnectFail("closed while connecting", phase="prepare", error=error, timings=timings)
    reason = f"unable to prepare the request; {type(error).__name__}: {safe_str(error)}"
    advice = advise("prepare", error)
    return events.ConnectFail(reason, phase="prepare", error=error, advice=advice, timings=timings)


def _no_protocol(offered: Sequence[str]) -> errors.HandshakeError:
    names = ", ".join(map(repr, offered)) or "none, because the protocols function returned an empty list"
    return errors.HandshakeError(
        f"the server agreed to no subprotocol (offered: {names})",
        advice="Check the path and the names in protocols, or leave out require_protocol.",
    )


def _unwritten(error: Exception, address: str) -> errors.ConnectFail:
    if isinstance(error, Cancelled):
        return errors.ConnectFail("closed while connecting", phase="upgrade", address=address)
    fail = errors.ConnectFail(f"request failed; {cause(error)}", phase="upgrade", address=address)
    fail.__cause__ = error
    return fail
