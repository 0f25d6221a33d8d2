from __future__ import annotations

from pathlib import Path

import pytest

from devices.errors import InventoryError
from devices.ssh.config import read_config


def test_included_files_stand_where_they_are_included(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "1").write_text("Host a\n  Port 1\n", encoding="utf-8")
    (tmp_path / "more" / "2").write_text(f'Include = "{tmp_path}/third"\n', encoding="utf-8")
    (tmp_path / "third").write_text("Host b\n  Port 3\n", encoding="utf-8")
    path = tmp_path / "config"
    path.write_text("Host a\n  User u\n  Include more/*\n  User late\n  HostName h\n")
    config = read_config(path)
    assert (config.lookup("a")["port"], config.lookup("a")["user"]) == ("1", "u")
    # What follows belongs to the section that the included file stands in.
    assert config.lookup("a")["hostname"] == "h"
    assert config.lookup("b") == {"port": "3", "hostname": "b"}


def test_files_that_are_missing_are_empty(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Include nothing/*\nUser u\n", encoding="utf-8")
    assert read_config(tmp_path / "config").lookup("x")["user"] == "u"
    assert read_config(tmp_path / "none").lookup("x") == {"hostname": "x"}


def test_a_configuration_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config"
    for text in (b"Include config\n", b"Match user\n", b"\xff\xfe\n"):
        path.write_bytes(text)
        with pytest.raises(InventoryError, match=str(path)):
            read_config(path)
