"""Advice for connections that the server has closed because of too many messages."""

from __future__ import annotations

import pytest

from lochws.opening.advice import advice_for_close


@pytest.mark.parametrize("reason", [
    "Too many requests", "too many messages", "Rate limited.", "rate limit exceeded", "Exceeded message rate",
    "Message rate exceeded", "You are sending too fast", "throttled", "Excess Flood", "ratelimit",
    "request limit reached",
])
def test_a_server_that_names_a_limit_on_messages_is_given_one(reason: str) -> None:
    assert advice_for_close(reason, 22, 0.36, has_rate=False) == (
        "Pass the server's message limit as rate=Rate(…): "
        "the server closed the connection after 22 messages in 0.4 s."
    )


def test_with_a_limit_that_is_too_high_it_should_be_lowered() -> None:
    assert advice_for_close("Too many requests", 1, 2.0, has_rate=True) == (
        "Lower the limit in rate, or give it a larger margin: "
        "the server closed the connection after 1 message in 2.0 s."
    )


@pytest.mark.parametrize(("reason", "messages", "seconds"), [
    ("", 22, 0.4), ("policy violation", 22, 0.4), ("invalid token", 22, 0.4),
    ("too many connections", 22, 0.4), ("Too many requests", 0, 0.4), ("Too many requests", 22, None),
])
def test_without_such_words_and_facts_there_is_no_advice(
    reason: str, messages: int, seconds: float | None
) -> None:
    assert advice_for_close(reason, messages, seconds, has_rate=False) == ""
