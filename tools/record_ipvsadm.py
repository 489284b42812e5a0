#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record what ipvsadm prints: python3 netns-lab/lab.py vm run --share OUT python3 tools/record_ipvsadm.py OUT

        client and director                  servers
   203.0.113.1  VIPs on lo  outer ------- inner  198.19.0.11-14
   2001:db8:1::1            198.19.0.1           2001:db8:2::11-12

IPVS is given tests/unit/golden/ipvsadm/rules.txt and some traffic.  Each listing goes into a file of its
own below OUT, and what ipvsadm says to each line of words.txt into answers.json.  The namespaces are this
process's own, and end with it.  What is in OUT then goes where rules.txt is, and its counters into
tests/ipvsadm_table.py.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "unit" / "golden" / "ipvsadm"
VIPS = ("203.0.113.10/32", "2001:db8:1::10/128")
SERVERS4 = tuple(f"198.19.0.{host}" for host in (11, 12, 13, 14))
SERVERS6 = ("2001:db8:2::11", "2001:db8:2::12")
HOSTS = """\
127.0.0.1 localhost
203.0.113.10 www.example.com
203.0.113.20 a-name-of-more-than-33-characters.example.net
198.19.0.11 server1.example.com
198.19.0.12 a-server-with-a-very-long-name.example.net
2001:db8:1::10 www6.example.com
2001:db8:2::11 a-server-whose-name-fills-the-sixty-bytes-that-there-are.example.net
"""
CALL = b"""\
OPTIONS sip:www.example.com SIP/2.0\r
From: <sip:client@example.com>\r
To: <sip:www.example.com>\r
Call-ID: 3405803786@example.com\r
Content-Length: 0\r
\r
"""

LISTINGS = {
    "list": "-L",
    "list-n": "-Ln",
    "list-nosort": "-Ln --nosort",
    "list-one": "-Ln -t 203.0.113.10:80",
    "stats": "-Ln --stats",
    "stats-names": "-L --stats",
    "stats-exact": "-Ln --stats --exact",
    "rate": "-Ln --rate",
    "rate-exact": "-Ln --rate --exact",
    "thresholds": "-Ln --thresholds",
    "persistent-conn": "-Ln --persistent-conn",
    "tun-info": "-Ln --tun-info",
    "connections": "-Lcn",
    "connections-names": "-Lc",
    "connections-persistent": "-Lcn --persistent-conn",
    "save": "-S",
    "save-n": "-Sn",
    "timeout": "-L --timeout",
    "daemon-none": "-L --daemon",
}
EMPTY = {
    "empty-list": "-Ln",
    "empty-stats": "-Ln --stats",
    "empty-save": "-S",
    "empty-connections": "-Lcn",
    "empty-connections-persistent": "-Lcn --persistent-conn",
}
PROC = ("ip_vs", "ip_vs_conn", "ip_vs_stats")


def sh(line: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run *line*, which has to succeed."""
    return subprocess.run(shlex.split(line), check=True, text=True, **more)  # type: ignore[call-overload,no-any-return]


def record(out: Path, name: str, words: str) -> None:
    """Write what ipvsadm prints for *words*."""
    (out / f"{name}.txt").write_text(sh(f"ipvsadm {words}", stdout=subprocess.PIPE).stdout)


def record_proc(out: Path, prefix: str) -> None:
    """Write the kernel's own listings."""
    for name in PROC:
        (out / f"{prefix}-{name}.txt").write_text(Path("/proc/net", name).read_text())


@contextmanager
def servers() -> Iterator[None]:
    """Have the servers' side, in a namespace of its own, for as long as this lasts."""
    argv = ["unshare", "--net", sys.executable, __file__, "--servers"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # it has its namespace
        sh(f"ip link add outer type veth peer name inner netns {process.pid}")
        process.stdin.write("go\n")
        process.stdin.flush()
        process.stdout.readline()  # and serves
        try:
            yield
        finally:
            process.stdin.close()


def serve() -> None:
    """Be the servers: an echo on TCP 8080, 80 and UDP 53, until standard input ends."""
    print("here", flush=True)
    sys.stdin.readline()
    sh("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")
    for address in SERVERS4:
        sh(f"ip address add {address}/24 dev inner")
    for address in SERVERS6:
        sh(f"ip address add {address}/64 dev inner nodad")
    sh("ip link set inner up")
    sh("ip route add default via 198.19.0.1")
    sh("ip -6 route add default via 2001:db8:2::1")
    for port in (80, 8080):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=echo_streams, args=(listener,), daemon=True).start()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((SERVERS4[0], 53))
    threading.Thread(target=echo_datagrams, args=(datagrams,), daemon=True).start()
    print("serving", flush=True)
    sys.stdin.read()


def echo_streams(listener: socket.socket) -> None:
    """Answer each connection with what it says first, ten times."""
    kept = []
    while True:
        connection, _ = listener.accept()
        connection.sendall(connection.recv(4096) * 10)
        kept.append(connection)


def echo_datagrams(server: socket.socket) -> None:
    """Answer each datagram."""
    while True:
        data, client = server.recvfrom(4096)
        server.sendto(data, client)


def talk(client: tuple[str, int], service: tuple[str, int]) -> socket.socket:
    """Return a connection that has said something and heard it ten times."""
    connection = socket.create_connection(service, source_address=client, timeout=60)
    connection.sendall(b"x" * 1000)
    connection.recv(10000, socket.MSG_WAITALL)
    return connection


def traffic() -> list[socket.socket]:
    """Talk to the services; return the connections that stay."""
    clients = [("203.0.113.1", 40001 + number) for number in range(6)]
    kept = [talk(client, ("203.0.113.10", 80)) for client in clients]
    for connection in kept[4:]:
        connection.close()
    for port in (40001, 40002):
        kept.append(talk(("2001:db8:1::1", port), ("2001:db8:1::10", 80)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("203.0.113.1", 40001))
        for _ in range(4):
            datagrams.sendto(b"hello", ("203.0.113.10", 53))
            datagrams.recv(100)
        datagrams.sendto(CALL, ("203.0.113.10", 5060))
    time.sleep(3)  # the kernel adds its counters up every two seconds
    return kept


def answers(words: str) -> list[dict[str, object]]:
    """Return what ipvsadm says to each line of *words*, and how it ends; the table is empty before each."""
    found = []
    for line in words.splitlines():
        if line.startswith("#") or not line:
            continue
        sh("ipvsadm -C")
        argv = shlex.split(line)
        done = subprocess.run(["ipvsadm", *argv], input="", capture_output=True, text=True, check=False)
        found.append({"argv": argv, "says": done.stderr, "status": done.returncode & 0xFF})
    return found


def refusals() -> list[dict[str, object]]:
    """Return what ipvsadm says when the kernel refuses, in a table with one service and one server."""
    there, other = "-t 203.0.113.10:80", "-t 203.0.113.10:81"
    lines = [
        f"-A {there}", f"-A {other} -s nonesuch", f"-A {other} -p --pe nonesuch", f"-E {other}",
        f"-E {there} -s nonesuch", f"-D {other}", f"-a {other} -r 198.19.0.11 -m",
        f"-a {there} -r 198.19.0.11 -m", f"-e {other} -r 198.19.0.11 -m", f"-e {there} -r 198.19.0.12 -m",
        f"-d {other} -r 198.19.0.11", f"-d {there} -r 198.19.0.12", f"-Z {other}", f"-Ln {other}",
        "--stop-daemon master", "--start-daemon master --mcast-interface nonesuch",
        f"-a {there} -r 198.19.0.12 -m -x 5 -y 6", f"-a {there} -r 224.0.0.1 -m",
        "-A -t 0.0.0.0:80", "-A -t [2001:db8::1]:80 -p 5 -M 128",
    ]  # fmt: skip
    found = []
    for line in lines:
        for before in ("-C", f"-A {there}", f"-a {there} -r 198.19.0.11 -m"):
            sh(f"ipvsadm {before}")
        done = subprocess.run(["ipvsadm", *shlex.split(line)], capture_output=True, text=True, check=False)
        found.append({"argv": shlex.split(line), "says": done.stderr, "status": done.returncode & 0xFF})
    sh("ipvsadm -C")
    return found


def write_json(path: Path, rows: list[dict[str, object]]) -> None:
    """Write *rows*, a line each."""
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def main(out: Path) -> None:
    """Record everything, in the namespaces this runs in."""
    for name, text in (("hosts", HOSTS), ("nsswitch.conf", "hosts: files\nservices: files\n")):
        (out / name).write_text(text)
        sh(f"mount --bind {out / name} /etc/{name}")
    sh("ip link set lo up")
    for name, words in EMPTY.items():
        record(out, name, words)
    record_proc(out, "empty")
    write_json(out / "answers.json", answers((GOLDEN / "words.txt").read_text()))
    write_json(out / "refusals.json", refusals())
    with servers():
        for address in VIPS:
            sh(f"ip address add {address} dev lo")
        sh("ip address add 203.0.113.1/32 dev lo")
        sh("ip address add 2001:db8:1::1/128 dev lo")
        sh("ip address add 198.19.0.1/24 dev outer")
        sh("ip address add 2001:db8:2::1/64 dev outer nodad")
        sh("ip link set outer up")
        sh("sysctl -qw net.ipv4.vs.conntrack=0")
        with (GOLDEN / "rules.txt").open() as rules:
            sh("ipvsadm -R", stdin=rules)
        kept = traffic()
        for name, words in LISTINGS.items():
            record(out, name, words)
        record_proc(out, "proc")
        sh("ipvsadm --start-daemon master --mcast-interface outer --syncid 7")
        sh("ipvsadm --start-daemon backup --mcast-interface outer --syncid 7 --mcast-group ff02::81")
        record(out, "daemon-both", "-L --daemon")
        for role in ("master", "backup"):
            sh(f"ipvsadm --stop-daemon {role}")
        sh("ipvsadm --set 100 0 30")
        record(out, "timeout-set", "-L --timeout")
        sh("ipvsadm -C")
        del kept
    for name in ("hosts", "nsswitch.conf"):
        sh(f"umount /etc/{name}")
        (out / name).unlink()


if __name__ == "__main__":
    if sys.argv[1:] == ["--servers"]:
        serve()
    elif sys.argv[1:2] == ["--inside"]:
        main(Path(sys.argv[2]))
    else:
        sh(f"unshare --net --mount {sys.executable} {__file__} --inside {Path(sys.argv[1]).resolve()}")
