from __future__ import annotations

from pathlib import Path

import pytest

from devices.clusters import Cluster, order_cores, read_clusters
from devices.errors import UnsupportedBoardError
from devices.fingerprint import read_architecture
from devices.probe import Sensor, probe
from profiler.target import target_of

from .boards import BIG_LITTLE, CPU, RISCV, RPI4, RPI4_32, elf_header, make


def test_a_raspberry_pi_4_is_probed_as_its_files_say(tmp_path: Path) -> None:
    found = probe(make(tmp_path, RPI4))
    board = found.board
    assert (board.architecture, board.cpu_model, board.n_cores) == ("aarch64", "Cortex-A72", 4)
    assert (board.max_clock_mhz, board.serial) == (1800, "10000000abcdef01")
    assert found.clusters == (Cluster("Cortex-A72", (0, 1, 2, 3), 1800),)
    assert found.measuring_cores == (3, 2, 1, 0)
    assert found.governor == "ondemand"
    assert "performance" in found.governors
    assert found.sensors == (Sensor("cpu-thermal", 48.2),)
    assert found.os_image.startswith("Debian GNU/Linux 12")
    assert target_of(board).cpu == "cortex-a72"


def test_a_32_bit_system_on_a_64_bit_kernel_is_armv7(tmp_path: Path) -> None:
    found = probe(make(tmp_path, RPI4_32))
    assert found.board.architecture == "armv7l"
    assert target_of(found.board).triple == "armv7l-linux-gnueabihf"


def test_a_board_of_two_kinds_is_measured_on_its_fast_cores(tmp_path: Path) -> None:
    found = probe(make(tmp_path, BIG_LITTLE))
    assert found.clusters == (
        Cluster("Cortex-A76", (4, 5, 6, 7), 2256),
        Cluster("Cortex-A55", (0, 1, 2, 3), 1800),
    )
    assert found.measuring_cores == (7, 6, 5, 4, 3, 2, 1, 0)
    assert found.board.cpu_model == "Cortex-A55 + Cortex-A76"
    # Caches are those of the cores that are measured on.
    assert (found.board.l1_bytes, found.board.l2_bytes) == (64 << 10, 512 << 10)


def test_a_risc_v_board_is_probed_as_its_files_say(tmp_path: Path) -> None:
    found = probe(make(tmp_path, RISCV))
    assert (found.board.architecture, found.board.n_cores) == ("riscv64", 4)
    assert found.clusters == (Cluster("sifive,u74-mc", (0, 1, 2, 3), None),)
    assert (found.governor, found.governors, found.sensors) == ("", (), ())
    assert target_of(found.board).vector_bytes == 4


def test_small_cores_are_known_by_name_where_no_capacity_is_told(tmp_path: Path) -> None:
    files = {path: text for path, text in BIG_LITTLE.items() if "capacity" not in path}
    # The small cores' clock is higher than that of the fast ones.
    files |= {f"{CPU}/cpu{core}/cpufreq/cpuinfo_max_freq": "2400000" for core in range(4)}
    assert read_clusters(make(tmp_path, files))[0].cpu_model == "Cortex-A76"


def test_isolated_cores_of_the_fast_kind_come_first_though_no_process_is_there(
    tmp_path: Path,
) -> None:
    files = {f"{CPU}/isolated": "4-5\n", "proc/self/status": "Cpus_allowed_list:\t0-3,6\n"}
    assert order_cores(make(tmp_path, {**BIG_LITTLE, **files})) == (5, 4, 6, 3, 2, 1, 0)


def test_cores_that_share_their_units_come_after_those_that_do_not(tmp_path: Path) -> None:
    files = {
        f"{CPU}/cpu{core}/topology/thread_siblings_list": f"{core // 2 * 2}-{core // 2 * 2 + 1}\n"
        for core in range(4)
    }
    assert order_cores(make(tmp_path, {**RPI4, **files})) == (3, 1, 2, 0)


def test_cores_that_are_off_are_left_out(tmp_path: Path) -> None:
    root = make(tmp_path, {**RPI4, f"{CPU}/online": "0-1,3\n"})
    assert order_cores(root) == (3, 1, 0)


@pytest.mark.parametrize(
    ("machine", "header", "architecture"),
    [
        ("x86_64", elf_header(64, 62), "x86_64"),
        ("x86_64", elf_header(32, 3), "i686"),
        ("armv8l", elf_header(32, 40), "armv7l"),
        ("armv6l", elf_header(32, 40), "armv6l"),  # no NEON there
        ("aarch64", b"", "aarch64"),
        ("aarch64", b"#!/bin/busybox sh...", "aarch64"),
        ("mips", elf_header(32, 8), "mips"),
    ],
)
def test_the_shells_header_tells_what_programs_are_made_for(
    tmp_path: Path, machine: str, header: bytes, architecture: str
) -> None:
    make(tmp_path, {"board/machine": machine, "board/shell": header})
    assert read_architecture(tmp_path) == architecture


@pytest.mark.parametrize("machine", ["armv6l", "mips", ""])
def test_a_processor_without_kernels_is_refused_with_those_there_are(
    tmp_path: Path, machine: str
) -> None:
    make(tmp_path, {**RPI4, "board/machine": machine, "board/shell": b""})
    said = f"of desk must be one of x86_64, aarch64, armv7l, riscv64, got '{machine}'.* --set board"
    with pytest.raises(UnsupportedBoardError, match=said):
        probe(tmp_path, name="desk")
    corrected = probe(tmp_path, "aarch64")
    assert corrected.board.architecture == "aarch64"
    assert corrected.identity.architecture == machine, "what it says of itself tells it apart"
