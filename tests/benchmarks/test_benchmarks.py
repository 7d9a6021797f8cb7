"""Benchmarks measure what they claim: floods contain what is counted, and small runs end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import pages, report
from benchmarks.__main__ import look_again, main, write_certificates
from benchmarks.clients import CLIENTS, can, missing
from benchmarks.metrics import METRICS, metric_named
from benchmarks.run import Bench, MeasurementError, Results
from benchmarks.targets import BOUNDS, TARGETS, Bound, Target, verdicts
from benchmarks.wire import flood_frames, upgrade_answer
from benchmarks.works import WORKS, Work
from lochws import events
from lochws.protocol.deflate import DeflateParameters, Inflater
from lochws.protocol.receiver import Receiver

from ..support.delayed_link import is_possible

HERE = ("lochws", "websockets threads", "websockets asyncio", "bare sockets")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


OPENINGS = [work for work in WORKS.values() if work.kind == "open"]
FLOODS = [work for work in WORKS.values() if work.kind == "receive"]


@pytest.mark.parametrize("work", FLOODS, ids=lambda work: work.name)
def test_a_flood_holds_as_many_messages_as_it_says_even_when_it_is_sent_again(work: Work) -> None:
    frames = flood_frames(work)
    receiver = Receiver(1 << 24, Inflater(DeflateParameters()) if work.deflate else None)
    received = [event for _ in range(2) for event in receiver.receive(b"".join(frames))]
    assert receiver.failure is None
    assert len(received) == 2 * len(frames)
    lengths = [len(event.text if isinstance(event, events.Text) else event.data) for event in received]
    assert sum(lengths) == work.total_length(len(received))


def test_messages_have_the_size_that_their_work_says() -> None:
    for work in WORKS.values():
        for message in work.messages():
            assert len(message.encode() if isinstance(message, str) else message) == work.size


def test_a_request_without_deflate_is_refused_where_the_work_needs_it() -> None:
    with pytest.raises(ValueError, match="permessage-deflate"):
        upgrade_answer(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n", deflate=True)


def test_targets_name_works_clients_and_metrics_that_exist() -> None:
    for target in (*TARGETS, *BOUNDS):
        assert metric_named(target.metric) in METRICS[WORKS[target.work].kind]
        if isinstance(target, Target):
            assert target.ours in CLIENTS
            assert target.peer in {*CLIENTS, "best peer"}


def _measured(**cpu: list[float]) -> Results:
    return Results({"receive text 128": {
        name.replace("_", " "): [{"count": 1, "length": 128, "cpu": one / 1e6, "wall": 1.0} for one in values]
        for name, values in cpu.items()
    }})


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    results = _measured(lochws=[1.0, 2.0, 1.0], picows=[3.0, 4.0, 1.0])
    (verdict,) = verdicts(results, [Target(work="receive text 128", peer="picows", factor=2.0)])
    assert verdict.reached == pytest.approx(2.0)
    assert verdict.is_met


def test_a_floor_is_at_most_its_target_and_is_what_the_short_form_insists_on() -> None:
    results = _measured(lochws=[1.0], picows=[1.6])
    little, much, reached_before = verdicts(results, [
        Target(work="receive text 128", peer="picows", factor=2.0),
        Target(work="receive text 128", peer="picows", factor=3.0),
        Target(work="receive text 128", peer="picows", factor=3.0, floor=1.5),
    ])
    assert (little.is_met, little.holds) == (False, True)
    assert (much.is_met, much.holds) == (False, False)
    assert (reached_before.is_met, reached_before.holds) == (False, True)
    for target in TARGETS:
        assert 0 < target.least <= target.factor


def test_a_target_that_was_not_measured_is_a_failure() -> None:
    target = Target(work="import", peer="picows", factor=1.0)
    bound = Bound(work="import", metric="wall ms", most=1)
    for verdict in verdicts(Results(), [target, bound]):
        assert not verdict.holds


def test_a_client_that_failed_in_one_round_has_no_numbers() -> None:
    results = _measured(lochws=[1.0, 1.0], picows=[9.0])
    results.failures["receive text 128"] = {"picows": "19 of 20 done"}
    (verdict,) = verdicts(results, [Target(work="receive text 128", peer="picows", factor=1.0)])
    assert verdict.reached is None
    assert not verdict.holds


class _SecondLook(Bench):
    """Measures nothing: has the results of a second look at hand."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.asked: list[tuple[str, list[str], int]] = []

    def run(self, work: Work, clients: Sequence[str], rounds: int) -> Results:
        self.asked.append((work.name, list(clients), rounds))
        return self.results


def test_a_ratio_below_its_floor_is_measured_again_and_all_rounds_count() -> None:
    first = _measured(lochws=[4.0, 4.0, 1.0], picows=[4.0, 4.0, 4.0])
    second = _SecondLook(_measured(lochws=[1.0] * 6, picows=[4.0, 4.0, 1.0, 1.0, 1.0, 1.0]))
    target = Target(work="receive text 128", peer="picows", factor=4.0)
    look_again(second, first, [target], 3)
    assert second.asked == [("receive text 128", ["lochws", "picows"], 6)]
    (verdict,) = verdicts(first, [target])
    assert sorted(verdict.rounds) == pytest.approx([1, 1, 1, 1, 1, 1, 4, 4, 4])
    assert not verdict.holds


def test_a_failure_is_not_measured_again_and_neither_is_what_holds() -> None:
    target = Target(work="receive text 128", peer="picows", factor=1.0)
    lost = _measured(lochws=[9.0], picows=[1.0])
    lost.failures["receive text 128"] = {"lochws": "19 of 20 done"}
    for results in (lost, _measured(lochws=[1.0], picows=[1.0])):
        second = _SecondLook(Results())
        look_again(second, results, [target], 3)
        assert not second.asked


@pytest.mark.parametrize(("cpu", "status"), [(1.2, 0), (1.0, 1)])
def test_the_short_form_tells_by_its_status_whether_the_floors_hold(
    cpu: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = "receive TLS 128"
    (target,) = [target for target in TARGETS if target.work == work]
    results = Results({work: {
        "lochws": [{"count": 1, "length": 128, "cpu": 1.0, "wall": 1.0}],
        "picows": [{"count": 1, "length": 128, "cpu": target.least * cpu - 0.1, "wall": 1.0}],
    }})
    measured = tmp_path / "measured.json"
    measured.write_text(report.to_json(results, {"python": "3"}), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["benchmarks", "--short", "--load", str(measured)])
    assert main() == status
    assert ("BROKEN" in capsys.readouterr().out) == bool(status)


def test_the_pages_tell_what_was_measured() -> None:
    measured = report.from_json(pages.RESULTS.read_text(encoding="utf-8"))
    for page, text in pages.pages(*measured).items():
        assert page.read_text(encoding="utf-8") == text, (
            "write it anew: python -m benchmarks --load benchmarks/results.json --write-docs"
        )
    for picture in pages.PICTURES:
        assert picture.exists()


@pytest.mark.parametrize("other", [["--work", "echo"], ["--peers", "lochws"], ["--short"]])
def test_pages_are_not_written_from_a_part(
    other: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--write-docs", *other])
    with pytest.raises(SystemExit):
        main()
    assert "needs all works and clients" in capsys.readouterr().err


def test_nothing_is_written_if_a_page_would_tell_what_was_not_measured() -> None:
    before = pages.RESULTS.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="was not measured"):
        pages.write(_measured(lochws=[1.0]), {"python": "3", "processors": "2"})
    assert pages.RESULTS.read_text(encoding="utf-8") == before


def test_the_best_peer_is_neither_lochws_nor_a_bare_socket() -> None:
    results = _measured(lochws=[1.0], lochws_pure=[2.0], bare_sockets=[0.5], aiohttp=[4.0], picows=[3.0])
    (verdict,) = verdicts(results, [Target(work="receive text 128", peer="best peer", factor=1.0)])
    assert verdict.text.endswith("lochws to picows")
    assert verdict.reached == pytest.approx(3.0)


def test_results_survive_their_file() -> None:
    results = _measured(lochws=[1.0], picows=[3.0])
    assert report.from_json(report.to_json(results, {"python": "3"})) == (results, {"python": "3"})
    assert any("3.00" in line for line in report.tables(results))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    certificates = tmp_path_factory.mktemp("certificates")
    write_certificates(Path(certificates))
    return Bench(str(certificates), 0.001)


SMALL = ("receive text 128", "receive binary 1M", "receive deflated 1024", "receive TLS 16", "send text 128",
         "send text 128, 8 threads", "echo 125")


@linux_only
@pytest.mark.parametrize("work", SMALL)
@pytest.mark.parametrize("name", HERE)
def test_a_client_does_a_small_part_of_a_work(bench: Bench, name: str, work: str) -> None:
    assert missing(name) is None
    if can(name, WORKS[work]):
        result = bench.measure(WORKS[work], name, 20)
        assert result["count"] == 20
        assert result["wall"] > 0
    else:
        assert WORKS[work].senders > 1
        assert name in ("websockets asyncio", "bare sockets")


@linux_only
@pytest.mark.parametrize("work", OPENINGS, ids=lambda work: work.name)
def test_a_crowd_opens(bench: Bench, work: Work) -> None:
    if work.delay and not is_possible():
        pytest.skip("this user may not create a network namespace with a TUN device")
    for name in ("lochws", "websockets threads"):
        assert bench.measure(work, name, 10)["count"] == 10


@linux_only
def test_a_client_that_fails_is_told_of_and_does_not_stop_the_others(bench: Bench) -> None:
    with pytest.raises(MeasurementError):
        bench.measure(WORKS["receive text 128"], "lochws", -1)
