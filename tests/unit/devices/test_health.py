from __future__ import annotations

from pathlib import Path

import pytest

from devices.health import Health, check
from devices.local import LocalDevice

CPU = "sys/devices/system/cpu"


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
