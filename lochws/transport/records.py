"""TLS records: the loop that gives received records to OpenSSL, one at a time, and reads their data.

Some records carry no data, such as key updates and session tickets (RFC 8446 section 4.6). If OpenSSL had
everything that has arrived, it would process any number of them in one call. With one record at a time, the
clock is checked in between. A read without data raises an exception, so OpenSSL is asked for data only after
it was given a record, or if it may still hold some.
"""

from __future__ import annotations

from ssl import MemoryBIO, SSLObject
from time import monotonic

from .stream import TLS_RECORD

#: The size of a record's header (RFC 8446 section 5.1), in bytes.
HEADER_BYTES = 5
#: The maximum payload of a record in TLS 1.2 (RFC 5246 section 6.2.3), in bytes; TLS 1.3 allows less.
LONGEST_BYTES = TLS_RECORD + 2048


def record_size(data: bytes | memoryview, start: int, end: int) -> int:
    """Return the size of the record that begins at `start`, or 0 while it is incomplete.

    Bytes that cannot be a record count as one complete record, so that OpenSSL refuses them.
    """
    here = end - start
    if here < HEADER_BYTES:
        return 0
    size = HEADER_BYTES + (data[start + 3] << 8) + data[start + 4]
    if size <= here:
        return size
    # Types 20 to 24 (RFC 8446 section 5.1, RFC 6520), version 3.x.
    is_record = 20 <= data[start] <= 24 and data[start + 1] == 3 and size <= HEADER_BYTES + LONGEST_BYTES
    return 0 if is_record else here


def read_records(
    tls: SSLObject, incoming: MemoryBIO, records: memoryview, start: int, end: int,
    buffer: memoryview, more: memoryview | None, filled: int, is_through: bool, seconds: float, /,
) -> tuple[int, int, bool, bool, OSError | int | None]:
    """Give whole records to OpenSSL and read their data, as far as room and time allow.

    Args:
        tls: the TLS object.
        incoming: the object that OpenSSL takes the records from.
        records: the memory with the records.
        start, end: the part of it that has been received and not given to OpenSSL yet.
        buffer: the memory for the data.
        more: memory for the data that does not fit into the buffer, or None.
        filled: how many bytes of that memory are filled already.
        is_through: whether OpenSSL has nothing left to process until it gets the next record.
        seconds: the time limit. At least one record is processed.

    Returns:
        Where the records begin that have not been given to OpenSSL; how much of the memory is filled; whether
        OpenSSL may have something left to process; whether a whole record is left; and the result of the last
        read if it was not data: an exception, or 0 at the end of the stream.
    """
    until = monotonic() + seconds
    own = len(buffer)
    room = own + (0 if more is None else len(more))
    result: OSError | int | None = None
    while filled < room:
        if is_through:
            size = record_size(records, start, end)
            if not size:
                break
            incoming.write(records[start : start + size])
            start += size
        is_through = True
        rest = buffer[filled:] if filled < own or more is None else more[filled - own :]
        try:
            count: int = tls.read(len(rest), rest)  # type: ignore[assignment]  # it has a buffer
        except OSError as error:
            result = error.with_traceback(None)  # a traceback would keep the views alive
            break
        if not count:
            result = 0
            break
        filled += count
        # A read that fills its memory may have left the rest of a record in OpenSSL.
        is_through = count < len(rest) or tls.pending() == 0
        if monotonic() >= until:
            break
    return start, filled, not is_through, record_size(records, start, end) > 0, result
