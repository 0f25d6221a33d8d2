from __future__ import annotations

import base64
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from devices.errors import HostKeyChangedError, UnknownHostKeyError
from devices.host_key import HostKey
from devices.ssh.host_keys import check_host_key, known_kinds, trust_host_key


def new_key(name: str) -> HostKey:
    public = Ed25519PrivateKey.generate().public_key()
    kind, text = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode().split()
    digest = base64.b64encode(hashlib.sha256(base64.b64decode(text)).digest()).decode()
    return HostKey(name, kind, text, f"SHA256:{digest.rstrip('=')}")


def test_a_key_is_trusted_for_its_host_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "known_hosts"
    key, other = new_key("[pi]:2222"), new_key("gate")
    with pytest.raises(UnknownHostKeyError, match=re.escape(key.fingerprint)):
        check_host_key(path, key, "pi4")
    trust_host_key(path, key)
    trust_host_key(path, other)
    check_host_key(path, key, "pi4")
    check_host_key(path, other, "pi4")
    assert known_kinds(path, "[pi]:2222") == ["ssh-ed25519"]
    for name in ("pi", "[pi]:2223", "[pi]:2222/via/gate"):
        moved = HostKey(name, key.kind, key.base64, key.fingerprint)
        with pytest.raises(UnknownHostKeyError):
            check_host_key(path, moved, "pi4")


def test_another_key_is_a_change_until_it_is_trusted(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    old, new, other = new_key("pi"), new_key("pi"), new_key("gate")
    trust_host_key(path, old)
    trust_host_key(path, other)
    with pytest.raises(HostKeyChangedError, match=re.escape(new.fingerprint)) as caught:
        check_host_key(path, new, "pi4")
    assert old.fingerprint in str(caught.value)
    assert caught.value.host_key == new
    trust_host_key(path, new)
    check_host_key(path, new, "pi4")
    check_host_key(path, other, "pi4")
    with pytest.raises(HostKeyChangedError):
        check_host_key(path, old, "pi4")


def test_a_line_for_several_hosts_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    old, new = new_key("pi"), new_key("pi")
    text = f"# by hand\npi,gate {old.kind} {old.base64} a comment\n"
    path.write_text(text, encoding="ascii")
    trust_host_key(path, new)
    check_host_key(path, new, "pi4")
    check_host_key(path, HostKey("gate", old.kind, old.base64, old.fingerprint), "pi4")
    assert path.read_text(encoding="ascii").startswith("# by hand\ngate ")


def test_nothing_is_lost_when_many_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    keys = [new_key(f"board{i}") for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: trust_host_key(path, key), keys))
    for key in keys:
        check_host_key(path, key, "pi4")
    assert {file.name for file in tmp_path.iterdir()} == {"known_hosts", "known_hosts.lock"}
