from __future__ import annotations

from pathlib import Path

import pytest

from devices.errors import InventoryError, TooFewCoresError, UnknownDeviceError
from devices.inventory import DeviceEntry, read_inventory
from devices.local import LocalDevice
from devices.open import Access, board_of, open_device
from devices.ort import OrtDevice
from devices.rpc import RpcDevice
from devices.ssh.address import SshAddress
from devices.ssh.device import SshDevice
from devices.tables import BoardTable, Identity, TargetTable

RPC = "[device.a]\ntransport = 'rpc'\nhost = 'h'\nfolder = '/f'\n"
SSH = "[device.a]\ntransport = 'ssh'\nfolder = '/f'\n"
BOARD = f"{SSH}host = 'h'\n[device.a."


def write(folder: Path, text: str) -> Path:
    path = folder / "devices.toml"
    path.write_text(text)
    return path


def test_this_machine_exists_without_a_file_with_both_runtimes(tmp_path: Path) -> None:
    for path in (None, tmp_path / "missing.toml"):
        for name, runtime in (("local", "latloop"), ("local-ort", "onnxruntime")):
            entry = read_inventory(path).find(name)
            assert (entry.transport, entry.threads, entry.core) == ("local", 1, None)
            assert entry.runtime == runtime


def test_a_file_adds_devices_to_local(tmp_path: Path) -> None:
    path = write(
        tmp_path, '[device.bench]\ntransport = "local"\nthreads = 1\ncore = 0\nnotes = "desk"\n'
    )
    inventory = read_inventory(path)
    place = f"{path}: [device.bench]"
    assert inventory.find("bench") == DeviceEntry("bench", "local", 1, 0, "desk", place=place)
    assert [entry.name for entry in inventory.entries] == ["local", "local-ort", "bench"]


def test_a_file_can_say_more_about_local(tmp_path: Path) -> None:
    inventory = read_inventory(write(tmp_path, "[device.local]\ncore = 0\n"))
    assert {entry.name: entry.core for entry in inventory.entries} == {
        "local": 0,
        "local-ort": None,
    }


def test_an_unknown_device_is_refused_with_the_known_names(tmp_path: Path) -> None:
    path = write(tmp_path, '[device.bench]\ntransport = "local"\n')
    known = "local, local-ort, bench"
    with pytest.raises(UnknownDeviceError, match=f"no device 'rpi4' .*known.*: {known}"):
        read_inventory(path).find("rpi4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[device.a]\ntransport = 'pigeon'\n",
            "[device.a] transport must be one of local, ssh, rpc",
        ),
        ("[device.a]\n", "[device.a] transport is missing"),
        (
            "[device.a]\ntransport = 'local'\nruntime = 'onnx'\n",
            "[device.a] runtime must be one of latloop, onnxruntime, got 'onnx'",
        ),
        ("[device.a]\ntransport = 'local'\nclock = 3\n", "unknown key 'clock'; known keys: transp"),
        ("[device.a]\ntransport = 'local'\ncore = '1'\n", "core must be a whole number, got '1'"),
        ("[device.a]\ntransport = 'local'\ncore = true\n", "core must be a whole number, got True"),
        ("[device.a]\ntransport = 'local'\ncore = -1\n", "core must be >= 0, got -1"),
        ("[device.a]\ntransport = 'local'\nthreads = 0\n", "threads must be >= 1, got 0"),
        ("[device.a]\ntransport = 'local'\nnotes = 3\n", "notes must be a text, got 3"),
        ("[device.'a b']\ntransport = 'local'\n", "a name must be letters"),
        ("[device]\na = 3\n", "[device.a] must be a table, got 3"),
        ("[device.a]\ntransport = 'ssh'\nfolder = '/f'\n", "[device.a] host is missing, which tr"),
        ("[device.a]\ntransport = 'ssh'\nhost = 'h'\n", "[device.a] folder is missing, which tr"),
        ("[device.a]\ntransport = 'local'\nport = 3\n", "port is for transport ssh or rpc, got"),
        (f"{RPC}rpc_server = 's'\n", "[device.a] rpc_port is missing, which transport rpc needs"),
        (f"{RPC}rpc_port = 0\n", "rpc_port must be 1 to 65535, got 0"),
        (f'{RPC}rpc_port = 1\nrpc_server = "a\\nb"\n', "rpc_server must be one line for the board"),
        (f"{RPC}rpc_port = 1\nlauncher = ['nice']\n", "launcher is for transport ssh, got"),
        (f"{SSH}host = 'h'\nrpc_port = 1\n", "rpc_port is for transport rpc, got transport 'ssh'"),
        ("[device.local.board]\nserial = ''\n", "board is for transport ssh"),
        (f"{SSH}host = 'a b'\n", "host must be a name or an address, got 'a b'"),
        (f"{SSH}host = '-oProxyCommand=x'\n", "host must be a name or an address"),
        (f"{SSH}host = 'h'\nport = 70000\n", "port must be 1 to 65535, got 70000"),
        (f"{SSH}host = 'h'\nruntime = 'onnxruntime'\n", "runtime must be latloop with transport"),
        (f"{SSH}host = 'h'\nlauncher = 'nice'\n", "launcher must be a list of texts, got 'nice'"),
        (f"{BOARD}board]\narchitecture = 'mips'\n", "[device.a.board] architecture must be one of"),
        (f"{BOARD}board]\nn_cores = 0\n", "[device.a.board] n_cores must be >= 1, got 0"),
        (f"{BOARD}board]\ncolour = 1\n", "[device.a.board] unknown key 'colour'"),
        (f"{BOARD}board]\nclusters = [1]\n", "clusters must be a list of clusters, got [1]"),
        (
            f"{BOARD}board]\nclusters = [{{ cores = [-1] }}]\n",
            "[device.a.board] clusters[0] cores must name each core once, from 0, got [-1]",
        ),
        (f"{BOARD}target]\nvector_bytes = 5\n", "[device.a.target] vector_bytes must be 4, 8, 16"),
        (f"{BOARD}identity]\nserial = 's'\n", "identity lacks architecture, cpu_model"),
        ("device = 3\n", "device must be tables"),
        ("[devices.a]\n", "unknown top-level 'devices'"),
        ("[device.a\n", "cannot read"),
    ],
)
def test_a_wrong_file_is_refused_with_place_and_rule(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InventoryError) as caught:
        read_inventory(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InventoryError, match="cannot read"):
        read_inventory(path)


def test_a_device_gets_what_its_entry_and_the_caller_say() -> None:
    device = open_device(DeviceEntry("bench", core=0), [("tvm", "0.27.0")])
    assert (device.name, device.cores) == ("bench", (0,))
    assert ("tvm", "0.27.0") in device.fingerprint().runtime.versions


def test_the_runtime_of_an_entry_decides_the_kind_of_device(tmp_path: Path) -> None:
    text = '[device.bench]\ntransport = "local"\nruntime = "onnxruntime"\ncore = 0\n'
    entry = read_inventory(write(tmp_path, text)).find("bench")
    device = open_device(entry, [("export", "1")])
    assert device == OrtDevice("bench", core=0, versions=(("export", "1"),))
    assert isinstance(open_device(DeviceEntry("bench")), LocalDevice)


@pytest.mark.parametrize("runtime", ["latloop", "onnxruntime"])
def test_threads_are_named_apart_and_need_a_core_each(
    tmp_path: Path, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2, 5})
    text = f'[device.a]\ntransport = "local"\nruntime = "{runtime}"\nthreads = '
    one, three, four = (
        read_inventory(write(tmp_path, f"{text}{n}\n")).find("a") for n in (1, 3, 4)
    )
    device = open_device(three)
    assert device.cores == (5, 2, 0)
    assert device.fingerprint().runtime.threads == 3
    assert device.fingerprint().device_id != open_device(one).fingerprint().device_id
    said = r"\[device.a\] threads must be at most 3, the cores that may be used, got 4"
    with pytest.raises(TooFewCoresError, match=said):
        open_device(four)


WHOLE = """
[device.desk]
transport = "ssh"
host = "fd00::7"
user = "pi"
port = 2222
jump = "gate"
key_file = "/keys/a"
folder = "/data/latloop"
launcher = ["nice", "-n", "-5"]
root = "/made"
threads = 2
core = 1

[device.desk.board]
architecture = "aarch64"
max_clock_mhz = 1500
measuring_cores = [3, 2, 1, 0]
clusters = [{ cpu_model = "Cortex-A72", cores = [0, 1, 2, 3] }]

[device.desk.target]
cpu = "cortex-a76"
features = ["+dotprod"]

[device.desk.identity]
architecture = "aarch64"
cpu_model = "Cortex-A72"
n_cores = 4
memory_bytes = 4294967296
serial = "s"
"""


def test_a_board_is_opened_as_its_tables_say(tmp_path: Path) -> None:
    entry = read_inventory(write(tmp_path, WHOLE)).find("desk")
    assert entry.board.architecture == "aarch64"
    assert entry.target == TargetTable(cpu="cortex-a76", features=("+dotprod",))
    assert entry.identity == Identity("aarch64", "Cortex-A72", 4, 1 << 32, "s")
    device = open_device(entry, [("tvm", "1")], Access(tmp_path / "known_hosts"))
    assert isinstance(device, SshDevice)
    assert device.connection.address == SshAddress("fd00::7", "pi", 2222, "gate", Path("/keys/a"))
    assert (device.name, device.folder, device.root) == ("desk", "/data/latloop", "/made")
    assert device.launcher == ("nice", "-n", "-5")
    assert device.cores == (1, 3), "its own core first, then in the order that enroll found"
    assert device.versions == (("tvm", "1"),)
    assert not (tmp_path / "known_hosts").exists(), "nothing is connected to before it is asked"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            ("core = 1", "core = 4"),
            InventoryError,
            "core must be one of the board's, 0, 1, 2, 3, g",
        ),
        (
            ("threads = 2", "threads = 5"),
            TooFewCoresError,
            "threads must be at most 4, the measuri",
        ),
    ],
)
def test_cores_that_a_board_does_not_have_are_refused(
    tmp_path: Path, change: tuple[str, str], error: type[Exception], said: str
) -> None:
    entry = read_inventory(write(tmp_path, WHOLE.replace(*change))).find("desk")
    with pytest.raises(error) as caught:
        open_device(entry, (), Access(tmp_path / "known_hosts"))
    assert f"devices.toml: [device.desk] {said}" in str(caught.value)


def test_the_same_board_through_rpc_is_another_device(tmp_path: Path) -> None:
    through_rpc = WHOLE.replace('"ssh"', '"rpc"\nrpc_port = 9090').replace("launcher", "# launcher")
    entry = read_inventory(write(tmp_path, through_rpc)).find("desk")
    device = open_device(entry, [("tvm", "1")], Access(tmp_path / "known_hosts"))
    assert isinstance(device, RpcDevice)
    assert (device.port, device.command, device.cores) == (9090, "", (1, 3))
    assert board_of(device) is device.board
    assert device.board.versions == (("tvm", "1"), ("transport", "tvm-rpc"))


def test_a_board_of_which_nothing_is_known_is_pinned_nowhere() -> None:
    entry = DeviceEntry("desk", "ssh", host="h", folder="/f", board=BoardTable())
    assert open_device(entry, (), Access(Path("none"))).cores == ()
