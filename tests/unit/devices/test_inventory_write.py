from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from devices.errors import InventoryError
from devices.inventory import read_inventory
from devices.inventory_write import staged_entry

BOARD = {
    "transport": "ssh",
    "host": "10.0.0.7",
    "folder": "/home/pi/.cache/latloop",
    "board": {
        "architecture": "aarch64",
        "max_clock_mhz": 1500.0,
        "cpu_features": ["asimd", "fp"],
        "clusters": [{"cpu_model": "Cortex-A72", "cores": [0, 1], "max_clock_mhz": 1500.0}],
    },
    "target": {"triple": "aarch64-linux-gnu"},
}
BY_HAND = """\
# my devices

[device.bench]      # the one under the desk
transport = "local"
threads = 1  # hyperthreads are off

[device.bench.target]
cpu = "x86-64-v3"

[device.rpi4]
transport = "ssh"
host = "10.0.0.4"
folder = "/old"
# a note on it

[device.rpi4.board]
architecture = "armv7l"

[device."last.one"]
transport = "local"  # stays the last
"""


def write(path: Path, name: str) -> None:
    with staged_entry(path, name, BOARD):
        pass


def test_a_first_device_makes_the_file_and_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "home/devices.toml"
    write(path, "rpi4")
    assert tomllib.loads(path.read_text()) == {"device": {"rpi4": BOARD}}
    entry = read_inventory(path).find("rpi4")
    assert (entry.host, entry.folder) == ("10.0.0.7", "/home/pi/.cache/latloop")
    assert entry.board.clusters[0].cores == (0, 1)


@pytest.mark.parametrize("name", ["new", "new.one", "rpi4"])
def test_other_devices_and_their_comments_stay(tmp_path: Path, name: str) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(BY_HAND)
    write(path, name)
    text = path.read_text()
    of_it = BY_HAND[BY_HAND.index("[device.rpi4]") : BY_HAND.index('[device."last')].splitlines()
    for line in BY_HAND.splitlines():
        assert line in text.splitlines() or (name == "rpi4" and line in of_it), line
    document = tomllib.loads(text)["device"]
    assert document[name] == BOARD
    expected = tomllib.loads(BY_HAND)["device"]
    assert {n: t for n, t in document.items() if n != name} == {
        n: t for n, t in expected.items() if n != name
    }


def test_replacing_leaves_one_table_of_the_name(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    for _ in range(3):
        write(path, "rpi4")
    assert tomllib.loads(path.read_text()) == {"device": {"rpi4": BOARD}}


def test_nothing_is_written_when_the_body_fails(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(BY_HAND)
    with pytest.raises(KeyboardInterrupt), staged_entry(path, "new", BOARD):
        raise KeyboardInterrupt
    assert path.read_text() == BY_HAND
    assert {p.name for p in tmp_path.iterdir()} == {"devices.toml", ".devices.toml.lock"}


def test_a_file_that_was_wrong_before_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text("[device.a]\ntransport = 'pigeon'\n")
    with pytest.raises(InventoryError, match=r"\[device.a\] transport must be one of"):
        write(path, "new")
    assert path.read_text() == "[device.a]\ntransport = 'pigeon'\n"


def test_a_table_that_would_be_wrong_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    wrong = staged_entry(path, "rpi4", {**BOARD, "threads": 0})
    with pytest.raises(InventoryError, match="threads must be >= 1"), wrong:
        raise AssertionError("it was staged")
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InventoryError, match=r"cannot write .*/file/devices.toml"):
        write(tmp_path / "file/devices.toml", "rpi4")
