"""What an SSH server shows to prove which machine it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host's public key; nothing of it is secret.

    Attributes:
        name: The host as the known-hosts file names it, `[host]:port` unless the port is 22.
        kind: The kind of key, such as `ssh-ed25519`.
        base64: The key.
        fingerprint: `SHA256:...`, as `ssh-keygen -l` prints it on the board.
    """

    name: str
    kind: str
    base64: str
    fingerprint: str
