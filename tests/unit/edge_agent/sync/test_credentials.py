"""Whether the certificate or the link failed: after the first the agent pauses for 30 s, after the second not."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_sync.data_folder import DataFolder, initialise, issue_certificate
from edge_agent.errors import LinkDown
from edge_agent.sync.credentials import Credentials
from simulator.disk import State, watching
from wire.clock import SystemClock

RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close sends RST


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def reset_after_hello(connection: socket.socket) -> None:
    connection.recv(65_536)
    reset(connection)


def hang_up_after_hello(connection: socket.socket) -> None:
    connection.recv(65_536)


# CPython 3.11: wrap_socket leaves a socket to the collector whose peer reset it before it was wrapped.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("network", [reset, reset_after_hello, hang_up_after_hello])
def test_a_network_that_breaks_the_handshake_is_no_refusal(
    tmp_path: Path, network: Callable[[socket.socket], None]
) -> None:
    folder, keys = DataFolder(tmp_path / "cloud"), tmp_path / "keys"
    initialise(folder, (), SystemClock())
    issue_certificate(folder, "gw", keys, 90, SystemClock())
    credentials = Credentials(keys / "ca.pem", keys / "cert.pem", keys / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                network(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        assert credentials.refusal("127.0.0.1", server.getsockname()[1], "") is None
        thread.join()


def test_a_card_that_fails_is_a_loss_of_the_link_and_no_bad_certificate(tmp_path: Path) -> None:
    """It is tried again; exit 78, for bad credentials, would end the agent for good."""
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("", encoding="ascii")
    credentials = Credentials(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    with watching(files=True) as make_disk:
        make_disk(tmp_path).state = State.FAILING
        with pytest.raises(LinkDown, match=r"ca\.pem cannot be read: Input/output error\. Try: journalctl -k"):
            credentials.read()


def test_another_certificate_is_of_the_agent_only_for_those_who_joined() -> None:
    """`edge-agent renew` knows nothing of files that [cloud] names."""
    ca, device, key = Path("ca.pem"), Path("device.pem"), Path("key.pem")
    assert Credentials(ca, device, device).renewal == "edge-agent renew"
    assert Credentials(ca, device, key).renewal == "cloud-sync cert issue --help"
