"""Typed handlers: the overloads of `on`, for type checkers alone.

The decorators return the function that they got, so their types are variables: one per event, bound to the
functions that can handle it, and another one for methods, which are functions of ``self`` and the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast, overload

from .. import events
from ..sent import Sent
from .naming import EventName, Function

# The names and classes of events that are often handled together.
_MessageName: TypeAlias = Literal["text", "binary"] | type[events.Text] | type[events.Binary]
_BeatName: TypeAlias = Literal["ping", "pong"] | type[events.Ping] | type[events.Pong]
_CloseName: TypeAlias = Literal["closing", "closed"] | type[events.Closing] | type[events.Closed]
_EndingName: TypeAlias = (
    Literal["connect_fail", "disconnected"] | type[events.ConnectFail] | type[events.Disconnected]
)
_SessionName: TypeAlias = Literal["ready", "disconnected"] | type[events.Ready] | type[events.Disconnected]

_Coroutine = TypeVar("_Coroutine", bound=Callable[[Any], Coroutine[Any, Any, object]])
_Connecting = TypeVar("_Connecting", bound=Callable[[events.Connecting], object])
_ConnectFail = TypeVar("_ConnectFail", bound=Callable[[events.ConnectFail], object])
_Connected = TypeVar("_Connected", bound=Callable[[events.Connected], object])
_Rejected = TypeVar("_Rejected", bound=Callable[[events.Rejected], object])
_Ready = TypeVar("_Ready", bound=Callable[[events.Ready], object])
_Poll = TypeVar("_Poll", bound=Callable[[events.Poll], object])
_Text = TypeVar("_Text", bound=Callable[[events.Text], object])
_Binary = TypeVar("_Binary", bound=Callable[[events.Binary], object])
_Stream = TypeVar("_Stream", bound=Callable[[events.Stream], object])
_Ping = TypeVar("_Ping", bound=Callable[[events.Ping], object])
_Pong = TypeVar("_Pong", bound=Callable[[events.Pong], object])
_ProtocolError = TypeVar("_ProtocolError", bound=Callable[[events.ProtocolError], object])
_Unresponsive = TypeVar("_Unresponsive", bound=Callable[[events.Unresponsive], object])
_Stale = TypeVar("_Stale", bound=Callable[[events.Stale], object])
_Closing = TypeVar("_Closing", bound=Callable[[events.Closing], object])
_Closed = TypeVar("_Closed", bound=Callable[[events.Closed], object])
_Disconnected = TypeVar("_Disconnected", bound=Callable[[events.Disconnected], object])
_BackOff = TypeVar("_BackOff", bound=Callable[[events.BackOff], object])
_Event = TypeVar("_Event", bound=Callable[[events.AnyEvent], object])
_Error = TypeVar("_Error", bound=Callable[[BaseException], object])
_Batch = TypeVar("_Batch", bound=Callable[[list[events.Text | events.Binary]], object])
_SentMessages = TypeVar("_SentMessages", bound=Callable[[tuple[Sent, ...]], object])
_Message = TypeVar("_Message", bound=Callable[[events.Text | events.Binary], object])
_Beat = TypeVar("_Beat", bound=Callable[[events.Ping | events.Pong], object])
_Close = TypeVar("_Close", bound=Callable[[events.Closing | events.Closed], object])
_Ending = TypeVar("_Ending", bound=Callable[[events.ConnectFail | events.Disconnected], object])
_Session = TypeVar("_Session", bound=Callable[[events.Ready | events.Disconnected], object])

#: Handlers of routes, as functions and as methods.
Routed = TypeVar("Routed", bound=Callable[[events.Text], object] | Callable[[events.Binary], object])
RoutedMethod = TypeVar(
    "RoutedMethod", bound=Callable[[Any, events.Text], object] | Callable[[Any, events.Binary], object]
)

_ConnectingMethod = TypeVar("_ConnectingMethod", bound=Callable[[Any, events.Connecting], object])
_ConnectFailMethod = TypeVar("_ConnectFailMethod", bound=Callable[[Any, events.ConnectFail], object])
_ConnectedMethod = TypeVar("_ConnectedMethod", bound=Callable[[Any, events.Connected], object])
_RejectedMethod = TypeVar("_RejectedMethod", bound=Callable[[Any, events.Rejected], object])
_ReadyMethod = TypeVar("_ReadyMethod", bound=Callable[[Any, events.Ready], object])
_PollMethod = TypeVar("_PollMethod", bound=Callable[[Any, events.Poll], object])
_TextMethod = TypeVar("_TextMethod", bound=Callable[[Any, events.Text], object])
_BinaryMethod = TypeVar("_BinaryMethod", bound=Callable[[Any, events.Binary], object])
_StreamMethod = TypeVar("_StreamMethod", bound=Callable[[Any, events.Stream], object])
_PingMethod = TypeVar("_PingMethod", bound=Callable[[Any, events.Ping], object])
_PongMethod = TypeVar("_PongMethod", bound=Callable[[Any, events.Pong], object])
_ProtocolErrorMethod = TypeVar("_ProtocolErrorMethod", bound=Callable[[Any, events.ProtocolError], object])
_UnresponsiveMethod = TypeVar("_UnresponsiveMethod", bound=Callable[[Any, events.Unresponsive], object])
_StaleMethod = TypeVar("_StaleMethod", bound=Callable[[Any, events.Stale], object])
_ClosingMethod = TypeVar("_ClosingMethod", bound=Callable[[Any, events.Closing], object])
_ClosedMethod = TypeVar("_ClosedMethod", bound=Callable[[Any, events.Closed], object])
_DisconnectedMethod = TypeVar("_DisconnectedMethod", bound=Callable[[Any, events.Disconnected], object])
_BackOffMethod = TypeVar("_BackOffMethod", bound=Callable[[Any, events.BackOff], object])
_EventMethod = TypeVar("_EventMethod", bound=Callable[[Any, events.AnyEvent], object])
_ErrorMethod = TypeVar("_ErrorMethod", bound=Callable[[Any, BaseException], object])
_BatchMethod = TypeVar("_BatchMethod", bound=Callable[[Any, list[events.Text | events.Binary]], object])
_SentMessagesMethod = TypeVar("_SentMessagesMethod", bound=Callable[[Any, tuple[Sent, ...]], object])
_MessageMethod = TypeVar("_MessageMethod", bound=Callable[[Any, events.Text | events.Binary], object])
_BeatMethod = TypeVar("_BeatMethod", bound=Callable[[Any, events.Ping | events.Pong], object])
_CloseMethod = TypeVar("_CloseMethod", bound=Callable[[Any, events.Closing | events.Closed], object])
_EndingMethod = TypeVar(
    "_EndingMethod", bound=Callable[[Any, events.ConnectFail | events.Disconnected], object]
)
_SessionMethod = TypeVar("_SessionMethod", bound=Callable[[Any, events.Ready | events.Disconnected], object])


# Of several events, a checker compares the function with the first one only, except for those that are often
# handled together. Their overloads differ from the later ones in this on purpose; mypy is told so.


class On(Protocol):
    """The type of `WebSocketApp.on`: one for coroutine functions, and one overload per event."""

    @overload
    def __call__(
        self, name: EventName, /, *others: EventName, loop: asyncio.AbstractEventLoop
    ) -> Callable[[_Coroutine], _Coroutine]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _MessageName, second: _MessageName, /, *others: _MessageName
    ) -> Callable[[_Message], _Message]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _BeatName, second: _BeatName, /, *others: _BeatName
    ) -> Callable[[_Beat], _Beat]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _CloseName, second: _CloseName, /, *others: _CloseName
    ) -> Callable[[_Close], _Close]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _EndingName, second: _EndingName, /, *others: _EndingName
    ) -> Callable[[_Ending], _Ending]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _SessionName, second: _SessionName, /, *others: _SessionName
    ) -> Callable[[_Session], _Session]: ...
    @overload
    def __call__(
        self, name: Literal["connecting"] | type[events.Connecting], /, *others: EventName
    ) -> Callable[[_Connecting], _Connecting]: ...
    @overload
    def __call__(
        self, name: Literal["connect_fail"] | type[events.ConnectFail], /, *others: EventName
    ) -> Callable[[_ConnectFail], _ConnectFail]: ...
    @overload
    def __call__(
        self, name: Literal["connected"] | type[events.Connected], /, *others: EventName
    ) -> Callable[[_Connected], _Connected]: ...
    @overload
    def __call__(
        self, name: Literal["rejected"] | type[events.Rejected], /, *others: EventName
    ) -> Callable[[_Rejected], _Rejected]: ...
    @overload
    def __call__(
        self, name: Literal["ready"] | type[events.Ready], /, *others: EventName
    ) -> Callable[[_Ready], _Ready]: ...
    @overload
    def __call__(
        self, name: Literal["poll"] | type[events.Poll], /, *others: EventName
    ) -> Callable[[_Poll], _Poll]: ...
    @overload
    def __call__(
        self, name: Literal["text"] | type[events.Text], /, *others: EventName
    ) -> Callable[[_Text], _Text]: ...
    @overload
    def __call__(
        self, name: Literal["binary"] | type[events.Binary], /, *others: EventName
    ) -> Callable[[_Binary], _Binary]: ...
    @overload
    def __call__(
        self, name: Literal["stream"] | type[events.Stream], /, *others: EventName
    ) -> Callable[[_Stream], _Stream]: ...
    @overload
    def __call__(
        self, name: Literal["ping"] | type[events.Ping], /, *others: EventName
    ) -> Callable[[_Ping], _Ping]: ...
    @overload
    def __call__(
        self, name: Literal["pong"] | type[events.Pong], /, *others: EventName
    ) -> Callable[[_Pong], _Pong]: ...
    @overload
    def __call__(
        self, name: Literal["protocol_error"] | type[events.ProtocolError], /, *others: EventName
    ) -> Callable[[_ProtocolError], _ProtocolError]: ...
    @overload
    def __call__(
        self, name: Literal["unresponsive"] | type[events.Unresponsive], /, *others: EventName
    ) -> Callable[[_Unresponsive], _Unresponsive]: ...
    @overload
    def __call__(
        self, name: Literal["stale"] | type[events.Stale], /, *others: EventName
    ) -> Callable[[_Stale], _Stale]: ...
    @overload
    def __call__(
        self, name: Literal["closing"] | type[events.Closing], /, *others: EventName
    ) -> Callable[[_Closing], _Closing]: ...
    @overload
    def __call__(
        self, name: Literal["closed"] | type[events.Closed], /, *others: EventName
    ) -> Callable[[_Closed], _Closed]: ...
    @overload
    def __call__(
        self, name: Literal["disconnected"] | type[events.Disconnected], /, *others: EventName
    ) -> Callable[[_Disconnected], _Disconnected]: ...
    @overload
    def __call__(
        self, name: Literal["back_off"] | type[events.BackOff], /, *others: EventName
    ) -> Callable[[_BackOff], _BackOff]: ...
    @overload
    def __call__(
        self, name: Literal["event"] | type[events.Event], /, *others: EventName
    ) -> Callable[[_Event], _Event]: ...
    @overload
    def __call__(self, name: Literal["error"], /, *others: EventName) -> Callable[[_Error], _Error]: ...
    @overload
    def __call__(self, name: Literal["batch"], /, *others: EventName) -> Callable[[_Batch], _Batch]: ...
    @overload
    def __call__(
        self, name: Literal["sent"], /, *others: EventName
    ) -> Callable[[_SentMessages], _SentMessages]: ...
    @overload
    def __call__(self, name: EventName, /, *others: EventName) -> Callable[[Function], Function]: ...


class Mark(Protocol):
    """The type of `lochws.on`: one overload per event."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _MessageName, second: _MessageName, /, *others: _MessageName
    ) -> Callable[[_MessageMethod], _MessageMethod]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _BeatName, second: _BeatName, /, *others: _BeatName
    ) -> Callable[[_BeatMethod], _BeatMethod]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _CloseName, second: _CloseName, /, *others: _CloseName
    ) -> Callable[[_CloseMethod], _CloseMethod]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _EndingName, second: _EndingName, /, *others: _EndingName
    ) -> Callable[[_EndingMethod], _EndingMethod]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name: _SessionName, second: _SessionName, /, *others: _SessionName
    ) -> Callable[[_SessionMethod], _SessionMethod]: ...
    @overload
    def __call__(
        self, name: Literal["connecting"] | type[events.Connecting], /, *others: EventName
    ) -> Callable[[_ConnectingMethod], _ConnectingMethod]: ...
    @overload
    def __call__(
        self, name: Literal["connect_fail"] | type[events.ConnectFail], /, *others: EventName
    ) -> Callable[[_ConnectFailMethod], _ConnectFailMethod]: ...
    @overload
    def __call__(
        self, name: Literal["connected"] | type[events.Connected], /, *others: EventName
    ) -> Callable[[_ConnectedMethod], _ConnectedMethod]: ...
    @overload
    def __call__(
        self, name: Literal["rejected"] | type[events.Rejected], /, *others: EventName
    ) -> Callable[[_RejectedMethod], _RejectedMethod]: ...
    @overload
    def __call__(
        self, name: Literal["ready"] | type[events.Ready], /, *others: EventName
    ) -> Callable[[_ReadyMethod], _ReadyMethod]: ...
    @overload
    def __call__(
        self, name: Literal["poll"] | type[events.Poll], /, *others: EventName
    ) -> Callable[[_PollMethod], _PollMethod]: ...
    @overload
    def __call__(
        self, name: Literal["text"] | type[events.Text], /, *others: EventName
    ) -> Callable[[_TextMethod], _TextMethod]: ...
    @overload
    def __call__(
        self, name: Literal["binary"] | type[events.Binary], /, *others: EventName
    ) -> Callable[[_BinaryMethod], _BinaryMethod]: ...
    @overload
    def __call__(
        self, name: Literal["stream"] | type[events.Stream], /, *others: EventName
    ) -> Callable[[_StreamMethod], _StreamMethod]: ...
    @overload
    def __call__(
        self, name: Literal["ping"] | type[events.Ping], /, *others: EventName
    ) -> Callable[[_PingMethod], _PingMethod]: ...
    @overload
    def __call__(
        self, name: Literal["pong"] | type[events.Pong], /, *others: EventName
    ) -> Callable[[_PongMethod], _PongMethod]: ...
    @overload
    def __call__(
        self, name: Literal["protocol_error"] | type[events.ProtocolError], /, *others: EventName
    ) -> Callable[[_ProtocolErrorMethod], _ProtocolErrorMethod]: ...
    @overload
    def __call__(
        self, name: Literal["unresponsive"] | type[events.Unresponsive], /, *others: EventName
    ) -> Callable[[_UnresponsiveMethod], _UnresponsiveMethod]: ...
    @overload
    def __call__(
        self, name: Literal["stale"] | type[events.Stale], /, *others: EventName
    ) -> Callable[[_StaleMethod], _StaleMethod]: ...
    @overload
    def __call__(
        self, name: Literal["closing"] | type[events.Closing], /, *others: EventName
    ) -> Callable[[_ClosingMethod], _ClosingMethod]: ...
    @overload
    def __call__(
        self, name: Literal["closed"] | type[events.Closed], /, *others: EventName
    ) -> Callable[[_ClosedMethod], _ClosedMethod]: ...
    @overload
    def __call__(
        self, name: Literal["disconnected"] | type[events.Disconnected], /, *others: EventName
    ) -> Callable[[_DisconnectedMethod], _DisconnectedMethod]: ...
    @overload
    def __call__(
        self, name: Literal["back_off"] | type[events.BackOff], /, *others: EventName
    ) -> Callable[[_BackOffMethod], _BackOffMethod]: ...
    @overload
    def __call__(
        self, name: Literal["event"] | type[events.Event], /, *others: EventName
    ) -> Callable[[_EventMethod], _EventMethod]: ...
    @overload
    def __call__(
        self, name: Literal["error"], /, *others: EventName
    ) -> Callable[[_ErrorMethod], _ErrorMethod]: ...
    @overload
    def __call__(
        self, name: Literal["batch"], /, *others: EventName
    ) -> Callable[[_BatchMethod], _BatchMethod]: ...
    @overload
    def __call__(
        self, name: Literal["sent"], /, *others: EventName
    ) -> Callable[[_SentMessagesMethod], _SentMessagesMethod]: ...
    @overload
    def __call__(self, name: EventName, /, *others: EventName) -> Callable[[Function], Function]: ...


class OnMethod(Protocol):
    """The type of the attribute `on` of the class WebSocketApp."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> Callable[..., Callable[[Function], Function]]: ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> On: ...


def as_registering(function: Callable[..., object]) -> OnMethod:
    """Return the method `WebSocketApp.on`, typed."""
    return cast(OnMethod, function)


def as_marking(function: Callable[..., object]) -> Mark:
    """Return the function `lochws.on`, typed."""
    return cast(Mark, function)
