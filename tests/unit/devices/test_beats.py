"""Heartbeats in both directions, through real pipes and real runners."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.device import Failure, Timing
from devices.errors import RunnerLostError
from devices.local import start_runner
from devices.protocol import Frame, PipeStream
from devices.writer import FrameWriter

from .leases import BEAT, LONG_S, answer_from, mute_host, request
from .workloads import QUICK, chain


def test_a_beat_is_answered_while_a_child_runs(executable: Path) -> None:
    with mute_host([str(executable), "--silence-ms", "60000"]) as (_, stream):
        stream.write_all(request("time", 0, "hang", timeout_ms=3_000), LONG_S)
        for _ in range(3):
            stream.write_all(BEAT, LONG_S)
            assert answer_from(stream) == Frame({"op": "beat"})
        assert answer_from(stream).message["failure"]["reason"] == "timeout"  # type: ignore[index]


def test_beats_among_requests_that_wait_are_answered_and_no_request_is_lost(
    executable: Path,
) -> None:
    kernels = ["hang", "add", "negate", "refuse"]
    with mute_host([str(executable), "--silence-ms", "60000"]) as (_, stream):
        for request_id, kernel in enumerate(kernels):
            stream.write_all(request("time", request_id, kernel, timeout_ms=2_000) + BEAT, LONG_S)
        answers = [answer_from(stream) for _ in range(2 * len(kernels))]
    assert sum(answer == Frame({"op": "beat"}) for answer in answers) == len(kernels)
    ids = [answer.message["id"] for answer in answers if "id" in answer.message]
    assert ids == list(range(len(kernels)))


def test_requests_beyond_the_bound_stay_in_the_pipe_and_are_answered(executable: Path) -> None:
    """More than a runner reads while a child runs, and a pipe holds."""
    with mute_host([str(executable), "--silence-ms", "60000"]) as (_, stream):
        stream.write_all(request("time", 0, "hang", timeout_ms=2_000), LONG_S)
        n_requests = 1000
        more = b"".join(request("time", i, "missing") for i in range(1, n_requests))
        sender = threading.Thread(target=stream.write_all, args=(more, LONG_S))
        sender.start()
        for request_id in range(n_requests):
            assert answer_from(stream).message["id"] == request_id
        sender.join()


def test_a_host_that_leaves_is_noticed_however_much_it_has_sent(executable: Path) -> None:
    with mute_host([str(executable), "--silence-ms", "60000"]) as (process, stream):
        stream.write_all(request("time", 0, "hang"), LONG_S)
        far_too_much = request("time", 1, "missing") * 10_000
        with pytest.raises(TimeoutError):
            stream.write_all(far_too_much, 2.0)
        stream.close()
        assert process.wait(LONG_S) == 0


def test_a_host_that_falls_silent_in_the_middle_of_a_frame_or_reads_nothing_is_left(
    executable: Path,
) -> None:
    command = [str(executable), "--silence-ms", "1500"]
    with mute_host(command) as (process, stream):
        stream.write_all(BEAT[:-1], LONG_S)
        assert process.wait(LONG_S) == 2
    with mute_host(command) as (process, stream):
        for request_id in range(200):  # answers of some kilobytes each
            stream.write_all(request("describe", request_id), LONG_S)
        assert process.wait(LONG_S) == 2


def test_a_quiet_host_and_a_long_kernel_lose_nothing(executable: Path) -> None:
    command = [str(executable), "--silence-ms", "3000"]
    with start_runner(command, (), silence_s=3.0) as session:
        time.sleep(4)
        result = session.time(chain("hang"), replace(QUICK, timeout_ms=5_000))
        assert isinstance(result, Failure)
        assert result.reason == "timeout"
        assert isinstance(session.time(chain("add"), QUICK), Timing)


def test_a_runner_that_stands_still_is_lost(executable: Path) -> None:
    command = [str(executable), "--silence-ms", "60000"]
    session = start_runner(command, (), silence_s=1.5, name="rpi4")
    os.kill(session.description.pid, signal.SIGSTOP)
    with pytest.raises(RunnerLostError, match=r"^rpi4: heard nothing of the runner for 1\.5 s"):
        session.time(chain("add"), replace(QUICK, timeout_ms=600_000))


def test_large_inputs_and_outputs_pass_between_beats(executable: Path) -> None:
    n = 1 << 21
    workload = chain("negate")
    tensors = tuple(replace(t, shape=(n,), offset_bytes=0) for t in workload.tensors)
    tensors = (tensors[0], tensors[1], replace(tensors[2], offset_bytes=4 * n))
    workload = replace(workload, tensors=tensors, arena_bytes=8 * n, weight_bytes=4 * n)
    command = [str(executable), "--silence-ms", "4000"]
    with start_runner(command, (), silence_s=4.0) as session:
        values = np.arange(n, dtype=np.float32)
        for _ in range(3):
            outputs = session.run(workload, {0: values}, (2,), 20_000)
            assert isinstance(outputs, dict)
            np.testing.assert_array_equal(outputs[2], -values)


def test_a_frame_that_was_broken_off_is_followed_by_nothing() -> None:
    read_fd, write_fd = os.pipe()
    stream = PipeStream(read_fd, write_fd)
    writer = FrameWriter(stream, 0.2)
    with pytest.raises(TimeoutError):
        writer.write(bytes(1 << 20), 0.05)
    n_written = len(os.read(read_fd, 1 << 20))
    with pytest.raises(BrokenPipeError, match="broken off"):
        writer.write(b"more", 1.0)
    time.sleep(0.5)  # time for many beats
    os.set_blocking(read_fd, False)
    with pytest.raises(BlockingIOError):
        os.read(read_fd, 1)
    assert n_written > 0
    writer.stop()
    stream.close()


def test_beats_end_with_their_session(executable: Path) -> None:
    before = threading.active_count()
    with start_runner([str(executable), "--silence-ms", "60000"], (), silence_s=60.0):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
