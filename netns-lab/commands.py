# SPDX-License-Identifier: Apache-2.0
"""The lab's command line: lab.py up|enter|exec|status|down|vm."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import guest
import namespace
import state
from lab import SWITCH, Lab
from namespace import SBIN, LabError
from topology import TOPOLOGIES

DEFAULT_RUN = "lab"
_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/accept_local",
    "net/ipv6/conf/all/forwarding",
)


def main() -> None:
    """Run the command of the command line; a LabError is one line and exit status 1."""
    arguments = _parser().parse_args()
    if os.geteuid() != 0:
        print("lab: network namespaces need root: run this with sudo", file=sys.stderr)
        sys.exit(5)
    os.environ["PATH"] += SBIN
    try:
        action: Callable[[argparse.Namespace], int] = arguments.action
        sys.exit(action(arguments))
    except (LabError, TimeoutError) as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.py", description="A network of namespaces to try fullnat on.")
    commands = parser.add_subparsers(required=True, metavar="up|enter|exec|status|down|vm")

    def add(name: str, action: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        command.add_argument("--run", default=DEFAULT_RUN, help="the lab's id (default: %(default)s)")
        return command

    up = add("up", _up, "build a lab, replacing one of the same id")
    up.add_argument(
        "topology", nargs="?", default="two-arm", choices=list(TOPOLOGIES), help="default: %(default)s"
    )
    up.add_argument("--servers", action="store_true", help="start nginx on every real server")
    up.add_argument("--mtu", action="append", default=[], metavar="SEGMENT=MTU", help="as in wan=1280")
    enter = add("enter", _enter, "a shell on one of the lab's machines")
    enter.add_argument("role", help="client, director, server1, ...")
    execute = add("exec", _exec, "run a command on one of the lab's machines")
    execute.add_argument("role", help="client, director, server1, ...")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    add("status", _status, "addresses, routes, processes and sysctls of each machine")
    add("down", _down, "end the lab's processes and remove it; harmless when there is none")
    _add_machine(commands.add_parser("vm", help="a virtual machine with Debian's kernel, which has IPVS"))
    return parser


def _add_machine(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="run|fetch")
    text = "boot, run COMMAND in this directory, and stop; the host's files are there, and stay as they are"
    run = commands.add_parser("run", help=text, description=text)
    run.set_defaults(action=_vm_run)
    run.add_argument(
        "--share", action="append", default=[], type=Path, metavar="DIR", help="it may change what is in DIR"
    )
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    text = "download the kernel now, if it is not there"
    fetch = commands.add_parser("fetch", help=text, description=text)
    fetch.set_defaults(action=_vm_fetch)


def _up(arguments: argparse.Namespace) -> int:
    lab = Lab(arguments.topology, run=arguments.run, mtu=dict(_segment_mtu(text) for text in arguments.mtu))
    lab.up(servers=arguments.servers)
    again = "" if arguments.run == DEFAULT_RUN else f" --run {arguments.run}"
    print(lab.topology.drawing)
    print(f"{lab.topology.name} is up.  Now:")
    for command in (f"enter{again} director", f"status{again}", f"down{again}"):
        print(f"  {sys.argv[0]} {command}")
    return 0


def _segment_mtu(text: str) -> tuple[str, int]:
    segment, _, mtu = text.partition("=")
    if not mtu.isdigit():
        raise LabError(f"--mtu takes SEGMENT=MTU, as in wan=1280: {text!r}")
    return segment, int(mtu)


def _running(run: str) -> Lab:
    saved = state.load(run)
    if saved is None or saved.topology not in TOPOLOGIES:
        known = ", ".join(state.runs()) or "none"
        raise LabError(f"no lab {run!r} is up (up now: {known}); lab.py up builds one")
    return Lab(saved.topology, run=run)


def _enter(arguments: argparse.Namespace) -> int:
    where = _running(arguments.run).namespace(arguments.role)
    shell = os.environ.get("SHELL", "/bin/bash")
    # Debian's shell start-up files put this in the prompt.
    return _execute(where, [shell], {"debian_chroot": where})


def _exec(arguments: argparse.Namespace) -> int:
    if not arguments.argv:
        raise LabError("exec takes a role and a command: lab.py exec client curl http://203.0.113.10/")
    return _execute(_running(arguments.run).namespace(arguments.role), arguments.argv, {})


def _execute(where: str, argv: list[str], environment: dict[str, str]) -> int:
    line = namespace.command(where, argv)
    sys.stdout.flush()
    os.execvpe(line[0], line, {**os.environ, **environment})


def _status(arguments: argparse.Namespace) -> int:
    lab = _running(arguments.run)
    print(f"{lab.topology.name}, run {lab.id}\n\n{lab.topology.drawing}")
    for host in lab.topology.hosts:
        _print_host(lab.namespace(host.role))
    processes = namespace.processes_in([lab.namespace(SWITCH)])
    if processes:
        print(f"{lab.namespace(SWITCH)} should have no processes, and has {len(processes)}")
    return 0


def _print_host(name: str) -> None:
    print(name)
    print(_indented(namespace.ip("-brief", "address", namespace=name)))
    routes = namespace.ip("route", namespace=name) + namespace.ip("-6", "route", namespace=name)
    print(_indented("\n".join(line for line in routes.splitlines() if "fe80::" not in line)))
    for path, value in namespace.read_sysctls(name, _SYSCTLS).items():
        print(f"  {path.replace('/', '.')} = {' '.join(value.split())}")
    for process in namespace.processes_in([name]):
        print(f"  pid {process.pid}: {process.command}")
    print()


def _indented(text: str) -> str:
    return "\n".join(f"  {line.rstrip()}" for line in text.splitlines())


def _vm_run(arguments: argparse.Namespace) -> int:
    if not arguments.argv:
        raise LabError("vm run takes a command: lab.py vm run ipvsadm -Ln")
    return guest.run(arguments.argv, shared=arguments.share)


def _vm_fetch(_: argparse.Namespace) -> int:
    guest.require_tools()
    print(f"Linux {guest.Kernel.fetched().version}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    lab = Lab(run=arguments.run)
    there = bool(lab.namespaces) or state.load(arguments.run) is not None
    lab.down()
    print(f"{arguments.run} is down" if there else f"no lab {arguments.run!r} was up")
    return 0
