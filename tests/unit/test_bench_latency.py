# SPDX-License-Identifier: Apache-2.0
"""bench/gen/latency.c against a server that stops answering, or answers what it must not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "bench" / "gen" / "latency.c"
GOOD = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nok\n"

# Runs the generator against a server on the loopback: python -c SERVER ANSWERS ANSWER GENERATOR [OPTION]...
# The server answers so many requests, and then none.
SERVER = r"""
import selectors, socket, subprocess, sys, threading

left, answer = int(sys.argv[1]), sys.argv[2].encode()
listener = socket.create_server(("127.0.0.1", 0))
selector = selectors.DefaultSelector()
selector.register(listener, selectors.EVENT_READ)

def serve(ready):
    global left
    if ready is listener:
        selector.register(listener.accept()[0], selectors.EVENT_READ)
    elif not ready.recv(65536):
        selector.unregister(ready)
    elif left:
        left -= 1
        ready.sendall(answer)

def serve_all():
    while True:
        for key, _ in selector.select():
            try:
                serve(key.fileobj)
            except ConnectionError:  # the generator had enough
                selector.unregister(key.fileobj)

threading.Thread(target=serve_all, daemon=True).start()
port = str(listener.getsockname()[1])
sys.exit(subprocess.run([*sys.argv[3:], "--server", "127.0.0.1", "--port", port]).returncode)
"""
IN_NAMESPACE = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]

pytestmark = pytest.mark.requires("root", "netns", "gcc")


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("bench") / "latency"
    options = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run(["gcc", *options, "-o", program, SOURCE], check=True)
    return program


def measure(generator: Path, answers: int, answer: str, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", SERVER, str(answers), answer, str(generator), "--body", "3", *options]
    return subprocess.run([*IN_NAMESPACE, *argv], capture_output=True, text=True, timeout=60, check=False)


def test_every_request_is_asked_and_answered_once(generator: Path) -> None:
    done = measure(
        generator, 300, GOOD, "--rate", "1000", "--seconds", "0.2", "--warmup", "0.1", "--wait", "20"
    )
    said = json.loads(done.stdout)
    assert (said["asked"], said["unanswered"], said["rate"]) == (200, 0, 1000)
    assert 0 < said["p50"] <= said["p90"] <= said["p99"] <= said["p99.9"]


def test_what_a_silent_server_delays_counts_from_when_it_was_due(generator: Path) -> None:
    # Of 200 requests on 4 connections 100 are answered; only 4 of the others are ever sent.
    options = ("--connections", "4", "--rate", "1000", "--seconds", "0.2", "--wait", "0.5")
    said = json.loads(measure(generator, 100, GOOD, *options).stdout)
    assert (said["asked"], said["unanswered"]) == (200, 100)
    # The last is due at 199 ms and waited for until 699 ms; number 190 of 200 is due at about 110 ms.
    assert said["p90"] >= 570e6
    assert said["p99.9"] >= said["p99"] >= 590e6
    assert said["p50"] < said["p90"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (GOOD.replace("200 OK", "502 Bad Gateway"), 'answered "HTTP/1.1 502 Bad Gateway" instead of 200'),
        (GOOD.replace("Length: 3", "Length: 4"), "an answer of another length than 3 bytes"),
        (GOOD.replace("Content-Length", "Content-Kind"), "an answer without Content-Length"),
        (GOOD + GOOD, "more was answered than asked for"),
        ("x" * 4096, "an answer of more than 4096 bytes"),
    ],
)
def test_a_wrong_answer_ends_it(generator: Path, answer: str, words: str) -> None:
    done = measure(generator, 300, answer, "--rate", "1000", "--seconds", "0.2", "--wait", "20")
    assert (done.returncode, done.stderr) == (1, f"latency: {words}\n")
