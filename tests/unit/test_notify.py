# SPDX-License-Identifier: Apache-2.0
"""What the service manager hears, and when the watchdog is not fed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fullnat.control.notify import Notifier, QueueLook, Watchdog, take_notifier, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A manager that listens, and the address it gives."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@fullnat-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + name[1:] if name.startswith("@") else name)
        heard.settimeout(5)
        yield heard, name


def test_each_message_is_one_datagram_of_assignments(manager: tuple[socket.socket, str]) -> None:
    heard, address = manager
    notifier = take_notifier({"NOTIFY_SOCKET": address})
    notifier.ready("engine native,\nserving web")
    notifier.reloading(12_345_678_999)
    notifier.status("reload refused: x")
    notifier.alive()
    notifier.stopping()
    assert [heard.recv(4096).decode() for _ in range(5)] == [
        "READY=1\nSTATUS=engine native, serving web",
        "RELOADING=1\nMONOTONIC_USEC=12345678",
        "STATUS=reload refused: x",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_programs_that_are_started_find_no_address() -> None:
    environment = {"NOTIFY_SOCKET": "/nowhere", "PATH": "/bin"}
    take_notifier(environment)
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens-here"])
def test_nobody_there_is_no_trouble(address: str) -> None:
    Notifier(address).ready("serving")


def test_an_address_of_another_kind_is_nobody() -> None:
    take_notifier({"NOTIFY_SOCKET": "vsock:2:1234"}).alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "7"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_interval_is_the_managers_if_it_means_us(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_interval(environment, pid=7) == seconds


def look(offered: int, settled: int, number: int = 1080) -> QueueLook:
    return QueueLook(number, offered % 2**32, settled % 2**32)


def find_hung(*looks: QueueLook, held: int = 0) -> int | None:
    """Return what the last of *looks*, of one queue, shows."""
    watchdog, found = Watchdog(), None
    for one in looks:
        found = watchdog.find_hung([one], held)
    return found


def test_a_queue_whose_packets_get_no_verdict_is_hung() -> None:
    assert find_hung(look(100, 100), look(120, 100)) == 1080


def test_one_verdict_is_enough() -> None:
    assert find_hung(look(100, 100), look(10_000, 101)) is None


def test_a_queue_nobody_sends_to_is_not() -> None:
    assert find_hung(look(100, 90), look(100, 90), look(100, 90)) is None


def test_the_first_look_shows_nothing() -> None:
    assert find_hung(look(100, 0)) is None


def test_a_packet_now_and_then_shows_it_in_the_end() -> None:
    looks = [look(100 + more, 100) for more in range(9)]
    assert find_hung(*looks[:8]) is None
    assert find_hung(*looks) == 1080


def test_it_is_over_with_the_next_verdict() -> None:
    assert find_hung(look(100, 100), look(120, 100), look(130, 101)) is None
    assert find_hung(look(100, 100), look(120, 100), look(130, 101), look(150, 101)) == 1080


def test_packets_that_are_held_on_purpose_do_not_count() -> None:
    assert find_hung(look(100, 100), look(120, 100), held=20) is None
    assert find_hung(look(100, 100), look(128, 100), held=20) == 1080


def test_counts_go_round() -> None:
    assert find_hung(look(-5, -5), look(15, -5)) == 1080
    assert find_hung(look(-5, -5), look(15, 3)) is None


def test_what_the_kernel_counts_is_read_so() -> None:
    """A queue for 6 packets whose reader takes them and lets two go, as Linux counted it."""
    columns = [
        (3, 0, 0, 3),  # waiting, queue_dropped, user_dropped, sequence: 3 came
        (6, 7, 0, 6),  # 10 more
        (4, 7, 0, 6),  # two were accepted
        (6, 9, 0, 8),  # 4 more
    ]
    looks = [QueueLook.of(1080, *row) for row in columns]
    assert [(one.offered, one.settled) for one in looks] == [(3, 0), (13, 0), (13, 2), (17, 2)]
    assert find_hung(*looks[:2]) == 1080
    assert find_hung(*looks[:3]) is None


def test_packets_that_the_socket_did_not_take_are_not_let_go() -> None:
    assert QueueLook.of(1080, waiting=6, queue_dropped=0, user_dropped=20, sequence=26).settled == 0


def test_one_of_several_is_found() -> None:
    watchdog = Watchdog()
    watchdog.find_hung([look(0, 0, 1080), look(0, 0, 1081)], 0)
    assert watchdog.find_hung([look(50, 50, 1080), look(50, 0, 1081)], 0) == 1081
