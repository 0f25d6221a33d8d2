"""A board whose kernels run inside TVM's RPC server, for targets that a static runner cannot serve.

The runner is the same, in a shared library that the server loads (`devices/runner/shared`); its
frames pass through calls of the server's. So lease, heartbeats, limits and timing are those of
every board. Files and the fingerprint come over SSH.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.board import Fingerprint
from devices.executable import check_executable
from devices.lease import lease_arguments
from devices.rpc_start import RpcServer, start_in
from devices.rpc_tunnel import Tunnel, open_tunnel
from devices.session import RunnerSession
from devices.ssh.device import SshDevice

#: How long a server may take to answer; one that is started first has to import TVM on the board.
CONNECT_S: Final = 15.0
START_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class RpcDevice:
    """A board with TVM's RPC server, reached through a tunnel to the board's own 127.0.0.1.

    Close it after use.

    Attributes:
        board: The way to the board, its folder and its cores. The account must be the server's.
        port: That the server listens at on the board.
        command: A line for the board's shell that starts the server, for the time of a session;
            "" when it runs already.
    """

    board: SshDevice
    port: int
    command: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.port < 1 << 16:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")
        if self.board.launcher:
            raise ValueError(f"launcher must be empty for RPC, got {self.board.launcher}")

    @property
    def name(self) -> str:
        """See `devices.device.Device`."""
        return self.board.name

    @property
    def threads(self) -> int:
        """Threads that a kernel may use."""
        return self.board.threads

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores that they are pinned to."""
        return self.board.cores

    @property
    def host_cores(self) -> tuple[int, ...]:
        """See `devices.device.Device`."""
        return self.board.host_cores

    def fingerprint(self) -> Fingerprint:
        """See `devices.device.Device`."""
        return self.board.fingerprint()

    def start(self, executable: Path, *, is_stealing: bool = False) -> RunnerSession:
        """Load a shared library of kernels in the board's server, and start the runner in it.

        Args:
            executable: From `profiler.link.link_library`.
            is_stealing: Whether whoever holds the board's lease is ended first.

        Raises:
            DeviceUnreachableError: board or server do not answer; see also `SshConnection.open`.
            ExecutableRefusedError: the server cannot load the library.
            MissingRuntimeError: there is no `ssh`, or no TVM, on this machine.
            LeaseHeldError: somebody else measures on the board.
            RunnerLostError: the runner started and did not answer.
        """
        found = self.board.files.survey()
        check_executable(executable, found.machine, self.name)
        connection = self.board.connection
        tunnel = open_tunnel(
            self.name, connection.hops(), connection.known_hosts, self.port, self.command
        )
        try:
            arguments = self._arguments(found.folder, is_stealing=is_stealing)
            stream, end = start_in(self._server(tunnel), executable, arguments)
        except BaseException:
            tunnel.close()
            raise

        def end_all() -> str:
            return " ".join(filter(None, (end(), tunnel.close())))

        def place(path: Path) -> str:
            return self.board.files.put((path,), session.description.pid)[0]

        session = RunnerSession(
            stream,
            self.cores,
            end_all,
            place=place,
            silence_s=self.board.silence_s,
            name=self.name,
        )
        return session

    def close(self) -> None:
        """Close the connection to the board; sessions have closed their tunnels."""
        self.board.close()

    def _server(self, tunnel: Tunnel) -> RpcServer:
        advice = (
            f"try `rpc_server` on the board: {self.command}"
            if self.command
            else "it is started there with `python -m tvm.exec.rpc_server --host 127.0.0.1 --port "
            f"{self.port}`"
        )
        return RpcServer(
            port=tunnel.port,
            own_port=self.port,
            connect_s=START_S if self.command else CONNECT_S,
            title=f"{self.name}: TVM's RPC server at the board's port {self.port}",
            advice=advice,
            is_reachable=lambda: tunnel.is_open,
        )

    def _arguments(self, folder: str, *, is_stealing: bool) -> list[str]:
        """The runner's; its working folder is the server's, so paths are whole."""
        board = self.board
        root = [] if board.root == "/" else ["--root", board.root]
        lease = lease_arguments(f"{folder}/lease", board.holder, board.host, steal=is_stealing)
        return [*root, "--silence-ms", str(round(board.silence_s * 1000)), *lease]
