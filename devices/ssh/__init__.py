"""Boards behind an SSH server: connections, host keys, uploads, and the device itself."""
