"""The corpus of the fuzzers, tried again in every run of the tests."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from lochws.protocol import compiled

from .inputs import Choices, cuts
from .targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus_passes(target: str) -> None:
    module = importlib.import_module(f"tests.fuzz.targets.{target}")
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        try:
            module.TestOneInput(path.read_bytes())
        except Exception as error:
            error.args = (f"{path.name}: {error}",)
            raise


def test_the_corpus_is_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert len(files) < 200
    assert {path.parent.name for path in files} == set(TARGETS)
    assert max(path.stat().st_size for path in files) <= 4096


@pytest.mark.skipif(compiled.twins is None, reason="built without a compiler")
def test_what_has_twins_is_fuzzed_with_both() -> None:
    from .targets import framing, receiver

    assert len(receiver.TWINS) == len(framing.BUILDS) == len(framing.PACKS) == 2


def test_cuts_are_the_input_whole_in_bytes_and_in_pieces() -> None:
    data = bytes(range(200))
    whole, single, pieces = cuts(data, 7)
    assert whole == [data]
    assert single == [bytes([number]) for number in data]
    assert b"".join(pieces) == data
    assert b"" in pieces
    assert len({len(piece) for piece in pieces}) > 2


def test_choices_of_an_input_that_has_ended_are_the_first() -> None:
    choices = Choices(b"\x05rest")
    assert choices.one_of("abc") == "c"
    assert choices.rest == b"rest"
    ended = Choices(b"")
    assert (ended.number(), ended.one_of("abc"), ended.flag()) == (0, "a", False)
