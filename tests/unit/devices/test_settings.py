from __future__ import annotations

import pytest

from devices.errors import InventoryError
from devices.settings import merge, parse_settings


def test_settings_have_the_types_of_their_keys() -> None:
    assert parse_settings(
        [
            "folder=/data/lat loop", "threads=2", "notes=a=b", "launcher=nice, -n,-5",
            "board.architecture=aarch64", "board.max_clock_mhz=1500", "board.measuring_cores=3,2",
            "board.cpu_features=", "target.vector_bytes=32", "target.features=+neon,-vmlx-hazards",
            "threads=4",
        ]
    ) == {
        "folder": "/data/lat loop",
        "threads": 4,
        "notes": "a=b",
        "launcher": ["nice", "-n", "-5"],
        "board": {
            "architecture": "aarch64",
            "max_clock_mhz": 1500.0,
            "measuring_cores": [3, 2],
            "cpu_features": [],
        },
        "target": {"vector_bytes": 32, "features": ["+neon", "-vmlx-hazards"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threads", "--set must be key=value"),
        ("threads=many", "--set threads must be a whole number, got 'many'"),
        ("threads=0", "--set threads must be >= 1, got 0"),
        ("board.architecture=mips", "board.architecture must be one of x86_64, aarch64, armv7l, r"),
        ("board.measuring_cores=1,1", "board.measuring_cores must name each core once"),
        ("board.max_clock_mhz=nan", "board.max_clock_mhz must be > 0, got nan"),
        ("target.vector_bytes=3", "target.vector_bytes must be 4, 8, 16, 32, 64 or 128, got 3"),
        ("target.features=neon", "target.features must be switches such as +neon"),
        ("folder=data", "folder must be an absolute path on the board, or begin with ~/, got 'd"),
        ("colour=red", "unknown key 'colour'; known keys: runtime, threads"),
        ("identity.serial=1", "unknown key 'identity.serial'"),
        ("board.clusters=1", "unknown key 'board.clusters'"),
        ("host=a", "--set host: say it in the address"),
        ("jump=a", "with --jump"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_with_the_rule(text: str, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        parse_settings([text])
    assert said in str(caught.value)


def test_merging_replaces_values_and_reaches_into_tables() -> None:
    found = {"a": 1, "board": {"x": 1, "y": [1]}, "c": 3}
    said = {"a": 2, "board": {"y": []}, "d": {"e": 1}}
    assert merge(found, said) == {
        "a": 2, "board": {"x": 1, "y": []}, "c": 3, "d": {"e": 1},
    }  # fmt: skip
    assert found["board"] == {"x": 1, "y": [1]}
