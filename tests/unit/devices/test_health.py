from __future__ import annotations

from pathlib import Path

import pytest

from devices.clusters import read_clusters
from devices.health import Health, check
from devices.local import LocalDevice
from devices.shell import LocalShell
from devices.snapshot import fetch

from .boards import BIG_LITTLE, make

CPU = "sys/devices/system/cpu"


PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def write_times(root: Path, steal_ticks: int, **process_ticks: int) -> None:
    """Two cores; processes get numbers from 101."""
    cores = "".join(f"cpu{core} 0 0 0 0 0 0 0 0 0 0\n" for core in range(2))
    write(root, "proc/stat", f"cpu  0 0 0 0 0 0 0 {steal_ticks} 0 0\n{cores}intr 1\n")
    for pid, (name, ticks) in enumerate(process_ticks.items(), start=101):
        fields = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 30]
        write(root, f"proc/{pid}/stat", f"{pid} ({name} (x) y) {' '.join(fields)}\n")


def check_second(
    root: Path, steal_ticks: int = 0, tick_ns: int = 30, cores: tuple[int, ...] = (0,), **ticks: int
) -> Health:
    """Check a second in which so many ticks of 10 ms were taken."""
    write_times(root, 1000, **dict.fromkeys(ticks, 500))

    def sleep(seconds: float) -> None:
        assert seconds == 1.0
        write_times(root, 1000 + steal_ticks, **{name: 500 + n for name, n in ticks.items()})

    return check(cores, tick_ns, root, sleep)


def test_a_quiet_board_has_no_findings(tmp_path: Path) -> None:
    write(tmp_path, f"{CPU}/cpu0/cpufreq/scaling_governor", "performance\n")
    health = check_second(tmp_path, idle=0, nearly_idle=3)
    assert health == Health(())
    assert health.is_fit


@pytest.mark.parametrize(
    ("path", "text", "severity", "said", "remedy"),
    [
        (f"{CPU}/cpu0/cpufreq/scaling_governor", "ondemand", "warning", "ondemand", "performance"),
        (f"{CPU}/intel_pstate/no_turbo", "0", "note", "turbo", "echo 1 |"),
        (f"{CPU}/cpufreq/boost", "1", "note", "turbo", "echo 0 |"),
        ("sys/class/thermal/thermal_zone1/temp", "91000", "warning", "91 °C", "cool"),
        (f"{CPU}/cpu0/cpufreq/scaling_governor", "powersave", "warning", "powersave", "echo perf"),
        ("board/users", "ann pts/0\nbob tty1\nann pts/1", "warning", "in: ann, bob", "ask them"),
        (
            PI_THROTTLED,
            "0x50000",
            "warning",
            "since the board was started: the supply vo",
            "reboot",
        ),
    ],
)
def test_each_file_leads_to_its_finding_and_remedy(
    tmp_path: Path, path: str, text: str, severity: str, said: str, remedy: str
) -> None:
    write(tmp_path, path, text + "\n")
    health = check_second(tmp_path)
    assert [finding.severity for finding in health.findings] == [severity]
    assert said in health.findings[0].text
    assert remedy in health.findings[0].remedy
    assert health.is_fit


@pytest.mark.parametrize(("ticks", "is_fit"), [(30, True), (100, True), (190, False)])
def test_other_processes_are_named_and_make_unfit_when_no_core_is_left(
    tmp_path: Path, ticks: int, is_fit: bool
) -> None:
    health = check_second(tmp_path, busy=ticks)
    assert len(health.findings) == 1
    assert f"busy (x) y (101, {ticks}% of a core)" in health.findings[0].text
    assert health.findings[0].remedy.endswith("kill 101")
    assert health.is_fit == is_fit


def test_every_core_that_is_used_is_looked_at(tmp_path: Path) -> None:
    for core, governor in enumerate(("performance", "powersave", "ondemand")):
        write(tmp_path, f"{CPU}/cpu{core}/cpufreq/scaling_governor", governor)
    health = check_second(tmp_path, cores=(0, 2), busy=60)
    governor, others = health.findings
    assert "of core 2 is ondemand" in governor.text
    # Both of the two cores are used: none is left for what takes more than half of one.
    assert others.severity == "unfit"
    assert check_second(tmp_path, cores=(0,), busy=60).is_fit


@pytest.mark.parametrize(("ticks", "severity"), [(10, "warning"), (80, "unfit")])
def test_stolen_time_is_found(tmp_path: Path, ticks: int, severity: str) -> None:
    health = check_second(tmp_path, steal_ticks=ticks)
    assert [finding.severity for finding in health.findings] == [severity]
    assert f"{ticks}%" in health.findings[0].text


def test_a_coarse_clock_is_found(tmp_path: Path) -> None:
    (finding,) = check_second(tmp_path, tick_ns=4_000_000).findings
    assert "4000000 ns" in finding.text


def test_this_machine_can_be_checked() -> None:
    health = check(LocalDevice().cores, sleep=lambda _: None)
    assert isinstance(health.is_fit, bool)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("0x1", "the supply voltage is too low (throttle flags 0x1)"),
        ("0xe", "the clock is capped, the clock is throttled, the soft temperature limit is"),
        ("0x50005", "the supply voltage is too low, the clock is throttled (throttle flags"),
    ],
)
def test_a_raspberry_pi_that_throttles_itself_now_is_unfit(
    tmp_path: Path, flags: str, said: str
) -> None:
    write(tmp_path, PI_THROTTLED, f"{flags}\n")
    health = check_second(tmp_path)
    assert [finding.severity for finding in health.findings] == ["unfit"]
    assert said in health.findings[0].text


@pytest.mark.parametrize("flags", ["0", "0x0", "", "what"])
def test_a_raspberry_pi_that_never_throttled_is_fit(tmp_path: Path, flags: str) -> None:
    write(tmp_path, PI_THROTTLED, flags)
    assert check_second(tmp_path).findings == ()


def test_a_processor_that_throttles_within_the_second_is_unfit(tmp_path: Path) -> None:
    counts = [tmp_path / f"{CPU}/cpu{core}/thermal_throttle/core_throttle_count" for core in (0, 1)]
    write_times(tmp_path, 0)
    for path in counts:
        path.parent.mkdir(parents=True)
        path.write_text("7\n")
    assert check((0,), None, tmp_path, lambda _: None).is_fit, "that was before"

    def throttle(_: float) -> None:
        for path in counts:
            path.write_text("9\n")

    (finding,) = check((0,), None, tmp_path, throttle).findings
    assert finding.severity == "unfit"
    assert "was throttled 4 times" in finding.text


def test_a_clock_that_is_held_below_its_highest_is_noted(tmp_path: Path) -> None:
    write(tmp_path, f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq", "1800000")
    write(tmp_path, f"{CPU}/cpu0/cpufreq/scaling_max_freq", "1200000")
    (finding,) = check_second(tmp_path).findings
    assert finding.severity == "note"
    assert "held at 1200 MHz or below, of 1800" in finding.text


def test_a_governor_that_the_kernel_does_not_offer_is_not_advised(tmp_path: Path) -> None:
    write(tmp_path, f"{CPU}/cpu0/cpufreq/scaling_governor", "schedutil")
    write(tmp_path, f"{CPU}/cpu0/cpufreq/scaling_available_governors", "schedutil powersave")
    (finding,) = check_second(tmp_path).findings
    assert "offers schedutil, powersave only" in finding.remedy


@pytest.mark.parametrize(
    ("cores", "severity", "said"),
    [
        ((7,), None, ""),
        ((7, 4), None, ""),
        ((0,), "note", "the board has faster ones: Cortex-A76 at up to 2256 MHz, cores 4, 5, 6, 7"),
        ((4, 3), "warning", "the cores used are of different kinds: Cortex-A76 at"),
    ],
)
def test_cores_of_the_fastest_kind_are_wanted(
    tmp_path: Path, cores: tuple[int, ...], severity: str | None, said: str
) -> None:
    files = {path: text for path, text in BIG_LITTLE.items() if "governor" not in path}
    make(tmp_path, files)
    assert len(read_clusters(tmp_path)) == 2
    found = check_second(tmp_path, cores=cores).findings
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    assert all(said in finding.text for finding in found)


def test_the_boards_own_clock_tells_how_long_it_was_looked_at(tmp_path: Path) -> None:
    write_times(tmp_path, 0, busy=100)
    write(tmp_path, "proc/uptime", "50.00 9.9")

    def sleep_long(_: float) -> None:
        write_times(tmp_path, 0, busy=200)  # a whole second of a core within four
        write(tmp_path, "proc/uptime", "54.00 9.9")

    (finding,) = check((0,), None, tmp_path, sleep_long).findings
    assert "25% of a core" in finding.text


def test_the_script_that_reads_and_its_connection_are_no_others(tmp_path: Path) -> None:
    def write_processes(ticks: int) -> None:
        write_times(tmp_path, 0)
        for pid, parent, name in ((7, 1, "sshd"), (8, 7, "sh"), (9, 1, "sshd")):
            fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 30]
            write(tmp_path, f"proc/{pid}/stat", f"{pid} ({name}) {' '.join(fields)}\n")

    write(tmp_path, "board/pid", "8")
    write_processes(100)
    (finding,) = check((0,), None, tmp_path, lambda _: write_processes(150)).findings
    assert "sshd (9, 50% of a core)" in finding.text
    assert "sh (8" not in finding.text
    assert "(7," not in finding.text


def test_a_board_is_looked_at_before_and_after_the_second(tmp_path: Path) -> None:
    events = []

    def refresh() -> None:
        events.append("look")
        fetch(LocalShell(), tmp_path)

    check((0,), None, tmp_path, lambda seconds: events.append(f"wait {seconds}"), refresh)
    assert events == ["look", "wait 1.0", "look"]
