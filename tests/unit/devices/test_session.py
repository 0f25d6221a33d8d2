from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from devices.device import Timing
from devices.errors import (
    DeviceFullError,
    LeaseFailedError,
    LeaseHeldError,
    ProtocolError,
    RunnerLostError,
    StaleLeaseError,
)
from devices.protocol import Frame, encode_frame
from devices.session import N_AHEAD, RunnerSession

from .workloads import QUICK, chain

DESCRIPTION = {
    "protocol": 2,
    "generation": 7,
    "kernels": ["add"],
    "tick_ns": 20,
    "clock": "C",
    "page_bytes": 4096,
    "pid": 1,
    "boot_id": "b",
}
UNKNOWN = dict.fromkeys(("load_1min", "n_running", "steal_ticks", "clock_mhz", "temperature_c"))
TIMING = {
    "generation": 7,
    "n_repeats": 4,
    "tick_ns": 20,
    "n_preemptions": 0,
    "n_timestamped": 0,
    "block_ns": [100],
    "before": UNKNOWN,
    "after": UNKNOWN,
}

Answer = Callable[[Mapping[str, object]], bytes]


def answer_well(request: Mapping[str, object]) -> bytes:
    body = DESCRIPTION if request["op"] == "describe" else TIMING
    return encode_frame(Frame({"id": request["id"], **body}))


class ScriptedStream:
    """Answers each request at the moment when the host starts to read."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Mapping[str, object]] = []
        self.unread = b""
        self.most_ahead = 0
        self.is_closed = False

    def write_all(self, data: bytes, timeout_s: float) -> None:
        assert timeout_s > 0
        n_json = int.from_bytes(data[:4], "little")
        self.requests.append(json.loads(data[8 : 8 + n_json]))
        self.most_ahead = max(self.most_ahead, len(self.requests))

    def read_some(self, n_bytes: int, timeout_s: float) -> bytes:
        assert timeout_s > 0
        if not self.unread and self.requests:
            self.unread = self.answer(self.requests.pop(0))
        part, self.unread = self.unread[:n_bytes], self.unread[n_bytes:]
        return part

    def close(self) -> None:
        self.is_closed = True


def session_with(answer: Answer) -> tuple[RunnerSession, ScriptedStream]:
    """A session that started well and then gets other answers."""
    stream = ScriptedStream(answer_well)
    session = RunnerSession(stream, cores=(), end=lambda: "its last words")
    stream.answer = answer
    return session, stream


def test_a_few_requests_are_sent_ahead_and_no_more() -> None:
    session, stream = session_with(answer_well)
    results = list(session.time_many([(chain("add"), QUICK)] * 20))
    assert len(results) == 20
    assert all(isinstance(result, Timing) for result in results)
    assert stream.most_ahead == N_AHEAD


def test_long_requests_are_not_sent_ahead() -> None:
    session, stream = session_with(answer_well)
    stream.most_ahead = 0
    assert len(list(session.time_many([(chain(*["add"] * 2000), QUICK)] * 3))) == 3
    assert stream.most_ahead == 1


def without(key: str) -> Answer:
    return lambda request: encode_frame(
        Frame({"id": request["id"], **{k: v for k, v in TIMING.items() if k != key}})
    )


def with_changes(**changes: object) -> Answer:
    return lambda request: encode_frame(Frame({"id": request["id"], **TIMING, **changes}))


@pytest.mark.parametrize(
    "answer",
    [
        *map(without, TIMING.keys() - {"generation"}),
        with_changes(id=99),
        with_changes(n_repeats=1.5),
        with_changes(block_ns=["1"]),
        with_changes(n_timestamped=3),
        with_changes(before={"load_1min": "high"}),
        with_changes(failure={"reason": "boredom"}),
        with_changes(failure=3),
    ],
)
def test_an_answer_that_makes_no_sense_ends_the_session(answer: Answer) -> None:
    session, stream = session_with(answer)
    with pytest.raises(ProtocolError, match="its last words"):
        session.time(chain("add"), QUICK)
    assert stream.is_closed
    with pytest.raises(RunnerLostError, match="its last words"):
        session.time(chain("add"), QUICK)


def test_a_stream_that_ends_is_a_lost_runner_with_its_last_words() -> None:
    session, _ = session_with(lambda _: b"")
    with pytest.raises(RunnerLostError, match=r"closed the stream: its last words"):
        session.time(chain("add"), QUICK)


def test_what_a_runner_answered_before_it_was_lost_is_read_though_no_more_can_be_sent() -> None:
    session, stream = session_with(answer_well)
    taken = 0

    def take(data: bytes, timeout_s: float) -> None:
        nonlocal taken
        if taken == 3:
            raise BrokenPipeError("nobody reads")
        taken += 1
        ScriptedStream.write_all(stream, data, timeout_s)

    stream.write_all = take  # type: ignore[method-assign]
    results = session.time_many([(chain("add"), QUICK)] * 20)
    assert [isinstance(next(results), Timing) for _ in range(3)] == [True] * 3
    with pytest.raises(RunnerLostError, match="its last words"):
        next(results)
    with pytest.raises(RunnerLostError, match="its last words"):
        session.time(chain("add"), QUICK)


def test_a_runner_that_takes_no_request_is_lost_at_once() -> None:
    session, stream = session_with(answer_well)

    def refuse(_: bytes, timeout_s: float) -> None:
        raise BrokenPipeError(f"nobody reads, for {timeout_s} s")

    stream.write_all = refuse  # type: ignore[method-assign]
    with pytest.raises(
        RunnerLostError, match=r"cannot send to the runner: nobody reads.*last words"
    ):
        session.time(chain("add"), QUICK)


def test_another_protocol_is_refused() -> None:
    def answer(request: Mapping[str, object]) -> bytes:
        return encode_frame(Frame({"id": request["id"], **DESCRIPTION, "protocol": 3}))

    with pytest.raises(ProtocolError, match="speaks protocol 3, this host 2"):
        RunnerSession(ScriptedStream(answer))


def test_an_interrupted_answer_is_never_taken_for_the_next_ones() -> None:
    def interrupt(_: Mapping[str, object]) -> bytes:
        raise KeyboardInterrupt

    session, stream = session_with(interrupt)
    with pytest.raises(KeyboardInterrupt):
        session.time(chain("add"), QUICK)
    stream.answer = answer_well
    session.close()
    assert stream.is_closed
    assert stream.requests == []  # not even asked to stop


@pytest.mark.parametrize("generation", [6, 8, None])
def test_an_answer_of_another_generation_is_void(generation: int | None) -> None:
    session, stream = session_with(with_changes(generation=generation))
    assert session.description.generation == 7
    with pytest.raises(StaleLeaseError, match=f"session {generation} came to session 7"):
        session.time(chain("add"), QUICK)
    assert stream.is_closed


LEASE = {
    "generation": 7,
    "holder": "ada",
    "host": "bench",
    "pid": 12,
    "boot_id": "b",
    "acquired": "2026-01-02T03:04:05Z",
    "expires": "2026-01-02T03:04:21Z",
    "released": None,
}


def refused(reason: str, **more: object) -> ScriptedStream:
    failure = {"reason": reason, "detail": "no lease"}

    def answer(request: Mapping[str, object]) -> bytes:
        return encode_frame(Frame({"id": request["id"], "failure": failure, **more}))

    return ScriptedStream(answer)


def test_a_held_lease_names_board_holder_host_and_the_way_out() -> None:
    stream = refused("lease_held", lease=LEASE)
    with pytest.raises(LeaseHeldError) as caught:
        RunnerSession(stream, name="rpi4")
    assert str(caught.value) == (
        "rpi4: ada on bench since 2026-01-02T03:04:05Z until 2026-01-02T03:04:21Z measures there; "
        "wait, or end that session with `latloop device steal rpi4`"
    )
    assert caught.value.lease is not None
    assert (caught.value.lease.holder, caught.value.lease.generation) == ("ada", 7)
    assert stream.is_closed


@pytest.mark.parametrize("lease", [None, 3, {}, LEASE | {"pid": "x"}, LEASE | {"expires": 3}])
def test_a_held_lease_without_a_readable_record_is_held_all_the_same(lease: object) -> None:
    stream = refused("lease_held", lease=lease)
    with pytest.raises(LeaseHeldError, match="no lease; wait") as caught:
        RunnerSession(stream)
    assert caught.value.lease is None


def test_other_trouble_with_a_lease_is_the_boards_and_says_what() -> None:
    with pytest.raises(LeaseFailedError, match=r"^rpi4: no lease$"):
        RunnerSession(refused("lease_failed"), name="rpi4")
    with pytest.raises(DeviceFullError, match=r"^rpi4: no lease$"):
        RunnerSession(refused("device_full"), name="rpi4")


def test_a_description_that_makes_no_sense_leaves_no_stream_open() -> None:
    stream = ScriptedStream(
        lambda request: encode_frame(Frame({"id": request["id"], "protocol": 2}))
    )
    with pytest.raises(ProtocolError, match="kernels must be a list"):
        RunnerSession(stream, silence_s=60)
    assert stream.is_closed


def test_beats_between_answers_are_no_answers() -> None:
    beat = encode_frame(Frame({"op": "beat"}))
    session, _ = session_with(lambda request: beat + beat + answer_well(request))
    assert isinstance(session.time(chain("add"), QUICK), Timing)
    assert isinstance(session.time(chain("add"), QUICK), Timing)


def test_weights_are_named_as_they_lie_on_the_board() -> None:
    stream = ScriptedStream(answer_well)
    session = RunnerSession(stream, place=lambda path: f"files/{path.name}")
    sent: list[Mapping[str, object]] = []
    stream.answer = lambda request: sent.append(request) or answer_well(request)
    session.time(replace(chain("add"), weights_file=Path("/here/weights")), QUICK)
    workload = sent[0]["workload"]
    assert isinstance(workload, dict)
    assert workload["weights_file"] == "files/weights"


def test_what_goes_wrong_names_the_device() -> None:
    stream = ScriptedStream(answer_well)
    session = RunnerSession(stream, name="rpi4")
    stream.answer = lambda _: b""
    with pytest.raises(RunnerLostError, match=r"^rpi4: the runner closed the stream$"):
        session.time(chain("add"), QUICK)
