"""TLS contexts: trusted authorities and the client certificate."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Callable, Hashable
from time import monotonic
from typing import NoReturn
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..options import Options
from ..system.control import control_lock
from .waiting import cause

# The first version of truststore that verifies certificates after a non-blocking handshake.
_TRUSTSTORE = (0, 10, 5)
# Where truststore has the system verify certificates. Elsewhere OpenSSL does so, with or without truststore,
# which would read all authorities again for each connection.
_SYSTEM_VERIFIES = sys.platform in {"darwin", "win32"}
# Where the authorities are if OpenSSL was compiled to look elsewhere, as it is in some builds of Python.
_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
)
# How long files count as unchanged after they were looked at, in seconds.
_FRESH_SECONDS = 1.0
# The contexts in use, by the result of `key_of`; and the state of their files, with the time of that look.
_shared: WeakValueDictionary[Hashable, ssl.SSLContext] = WeakValueDictionary()
_states: WeakKeyDictionary[ssl.SSLContext, tuple[Hashable, float]] = WeakKeyDictionary()
# The files that `check_tls` last found valid: thousands of apps may have the same.
_right: Hashable = None


def make_context(options: Options) -> ssl.SSLContext:
    """Create the TLS context described by the options, or return the `ssl_context` option unchanged.

    Contexts created here use TLS 1.2 or later. `ssl_cafile` is added to the system's authorities, unless
    those are disabled. On macOS and Windows the system verifies certificates if truststore is installed.
    Creating a context reads files and takes some 10 ms, so do it once per WebSocket, not per connection.

    Raises:
        OSError: a file cannot be read.
    """
    if options.ssl_context is not None:
        return options.ssl_context
    if not options.ssl_verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ssl_system_store:
        context = _system_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.ssl_verify and options.ssl_cafile is not None:
        context.load_verify_locations(options.ssl_cafile)
    if options.ssl_certfile is not None:
        context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile, _password(options))
    # The system's configuration may require more than 1.2, which is kept.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    return context


def shared_context(options: Options) -> ssl.SSLContext:
    """Return the context of another WebSocket that was made with the same options and files, or a new one.

    Thousands of apps with a context each would spend minutes and gigabytes on the same authorities. Nothing
    changes a context after it was made. A context that may block is not shared, since only one thread at a
    time can use it. Reads files, so it may block.

    Raises:
        OSError: a file cannot be read.
    """
    key, state = key_of(options), _state_of_files(options)
    with control_lock():
        context = _shared.get(key)
        if context is not None and _states[context][0] != state:
            context = None
    if context is None:
        context = make_context(options)
    with control_lock():
        _states[context] = state, monotonic()
        if key is not None:
            _shared[key] = context
    return context


def fresh_context(key: Hashable) -> ssl.SSLContext | None:
    """Return the context for a key if `shared_context` has just returned it. Reads no files."""
    with control_lock():
        context = _shared.get(key)
        is_fresh = context is not None and monotonic() - _states[context][1] < _FRESH_SECONDS
    return context if is_fresh else None


def key_of(options: Options) -> Hashable:
    """Return what a context depends on, apart from the contents of files; None if it is not shared."""
    if callable(options.ssl_password) or may_block(ssl.SSLContext):
        return None
    if options.ssl_verify and options.ssl_system_store and _truststore() is not None:
        return None
    return (
        options.ssl_verify, options.ssl_system_store, options.ssl_cafile, options.ssl_certfile,
        options.ssl_keyfile, options.ssl_password,
        # Programs replace these.
        ssl.SSLContext, ssl.create_default_context, _TRUSTSTORE,
    )


def _state_of_files(options: Options) -> Hashable:
    defaults = ssl.get_default_verify_paths()
    files = (options.ssl_cafile, options.ssl_certfile, options.ssl_keyfile, defaults.cafile, defaults.capath)
    state: list[Hashable] = []
    for file in files:
        try:
            found = os.stat(file) if file is not None else None
        except OSError:
            found = None
        state.append((file, found and (found.st_ino, found.st_size, found.st_mtime_ns)))
    return tuple(state)


def may_block(context: ssl.SSLContext | type[ssl.SSLContext]) -> bool:
    """Return whether TLS objects of a context may block: those of any class but the ssl module's own.

    Those of truststore do, since the system may ask the network about a certificate.
    """
    made = getattr(context, "sslobject_class", None)
    functions = (context.wrap_bio, getattr(made, "do_handshake", None))
    return any(getattr(function, "__module__", None) != "ssl" for function in functions)


def check_tls(options: Options) -> None:
    """Refuse TLS options that could only fail later.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not have the expected contents, or `ssl_context` is for servers.
    """
    if options.ssl_context is not None:
        if options.ssl_context.protocol == ssl.PROTOCOL_TLS_SERVER:
            raise ValueError("ssl_context is for servers: expected one created with ssl.PROTOCOL_TLS_CLIENT")
        return
    if options.ssl_cafile is None and options.ssl_certfile is None:
        return  # nothing to load, and creating a context is the slowest part of creating a WebSocket
    global _right  # noqa: PLW0603  a single assignment
    files = _given_files(options)
    if files is not None and files == _right:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.ssl_cafile is not None:
        with _Refusing("ssl_cafile", options.ssl_cafile, "a file of certificates in PEM form"):
            context.load_verify_locations(options.ssl_cafile)
    if options.ssl_keyfile is not None:
        with _Refusing("ssl_keyfile", options.ssl_keyfile, "a file with a private key in PEM form"):
            open(options.ssl_keyfile, "rb").close()
    if options.ssl_certfile is not None:
        expected = "a certificate and its private key in PEM form, and the password if the key has one"
        with _Refusing("ssl_certfile", options.ssl_certfile, expected):
            context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile, _password(options))
    _right = files


def _given_files(options: Options) -> Hashable:
    """Return the names and states of the files that the options name; None if they must be loaded."""
    if options.ssl_password is not None:
        return None  # or the password would be kept
    states: list[Hashable] = [ssl.SSLContext]  # some programs replace it
    for file in (options.ssl_cafile, options.ssl_certfile, options.ssl_keyfile):
        try:
            found = os.stat(file) if file is not None else None
        except (OSError, ValueError):
            return None
        states.append((file, found and (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)))
    return tuple(states)


def _system_context() -> ssl.SSLContext:
    """Create a context that trusts the system's authorities, through truststore or OpenSSL."""
    kind = _truststore()
    if kind is not None:
        return kind(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.create_default_context()
    if not _has_defaults():
        for file in filter(os.path.isfile, _CA_FILES):
            context.load_verify_locations(file)
            break
    return context


def _has_defaults() -> bool:
    """Return whether there are authorities where OpenSSL looks for them, or the user has chosen the place."""
    defaults = ssl.get_default_verify_paths()
    chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if chosen or _SYSTEM_VERIFIES or defaults.cafile:
        return True
    return bool(defaults.capath and os.listdir(defaults.capath))


def _truststore() -> type[ssl.SSLContext] | None:
    """Return truststore's class of contexts, or None where the system does not verify through it."""
    # A class that replaces the ssl module's, such as gevent's, must be used. Truststore would set
    # attributes of the original class and recurse endlessly.
    if not _SYSTEM_VERIFIES or ssl.SSLContext.__module__ != "ssl":
        return None
    try:
        if _version("truststore") >= _TRUSTSTORE:
            import truststore  # noqa: PLC0415  optional

            kind: type[ssl.SSLContext] = truststore.SSLContext
            return kind
    except ImportError:  # which includes PackageNotFoundError
        pass
    return None


def _version(package: str) -> tuple[int, ...]:
    from importlib import metadata  # noqa: PLC0415  a quarter of what lochws loads, and only wss asks

    numbers = metadata.version(package).split(".")
    return tuple(int(number) for number in numbers if number.isdecimal())


def _password(options: Options) -> str | bytes | Callable[[], str | bytes]:
    def missing() -> NoReturn:
        # Without this, OpenSSL would prompt on the terminal.
        raise ValueError("the private key has a password: pass it as ssl_password")

    return missing if options.ssl_password is None else options.ssl_password


class _Refusing:
    """Turns errors of loading a file into errors that name the option and say what was expected."""

    def __init__(self, option: str, value: object, expected: str) -> None:
        self._given = f"{option}={value!r}"
        self._expected = expected

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{self._given}: there is no such file") from None
        if isinstance(error, ssl.SSLError):
            raise ValueError(f"{self._given}: expected {self._expected}") from error
        if isinstance(error, (OSError, ValueError)):
            raise ValueError(f"{self._given}: {cause(error)}") from error
