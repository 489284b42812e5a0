# SPDX-License-Identifier: Apache-2.0
"""fullnat at work, start to finish: `make demo`.

Builds the two-arm lab, runs fullnat on the director, sends real HTTP requests through its VIPs,
shows who answered and what the servers saw, then stops it and checks that nothing is left behind.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections import Counter

from balancer import Balancer
from hoststate import HostState
from lab import Lab
from namespace import SBIN, LabError
from topology import TOPOLOGIES

RUN = "demo"
REQUESTS = 12  # per address family: the same number for each of three servers under rr
CURL = ("curl", "--silent", "--show-error", "--globoff", "--max-time", "5")
ANSWER = re.compile(r"server: (?P<server>\S+)\nclient: (?P<client>\S+) port \d+\n")


def main() -> int:
    """Run the demo and return its exit status; the lab is removed whatever happens."""
    if os.geteuid() != 0:
        print("demo: network namespaces need root: sudo make demo", file=sys.stderr)
        return 5
    os.environ["PATH"] += SBIN
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # KeyboardInterrupt: the lab is removed
    lab = Lab("two-arm", run=RUN)
    balancer: Balancer | None = None
    try:
        say("A lab of network namespaces; nothing of it leaves this machine")
        print(TOPOLOGIES["two-arm"].drawing)
        lab.up(servers=True)
        balancer = Balancer(lab, lab.config())
        demonstrate(lab, balancer)
    except (LabError, TimeoutError, OSError) as error:
        if balancer:
            echo(balancer)  # the rest of its log
        print(f"\ndemo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo interrupted; removing the lab", file=sys.stderr)
        return 130
    finally:
        lab.down()
    print("The lab is removed: no namespace, process or file of the demo is left.")
    return 0


def demonstrate(lab: Lab, balancer: Balancer) -> None:
    """Start fullnat, use it, look at it, stop it, and compare the director with how it was."""
    before = HostState.of(lab)

    say("fullnat run, on the director, with this configuration")
    print(indented(balancer.path.read_text()))
    seconds = balancer.start(on_line=quote)
    print(f"  ready after {seconds:.2f} s\n")

    say("curl, on the client, through the VIPs")
    for vip, lips in ((lab.vips4[0], lab.lips4), (f"[{lab.vips6[0]}]", lab.lips6)):
        request(lab, f"http://{vip}/", lips)
    print()

    for what in ("services", "servers", "flows", "ports"):
        say(f"fullnat show {what}")
        sys.stdout.flush()
        balancer.command("show", what, capture_output=False)  # its own terminal, its own colours
        print()

    say("fullnat, asked to stop")
    status = balancer.stop()
    echo(balancer)
    if status:
        raise LabError(f"fullnat ended with exit status {status}")
    if changes := before.changes_to(HostState.of(lab)):
        raise LabError("fullnat left changes on the director:\n" + indented("\n".join(changes)))
    print("\nThe director is as it was: same rules, sets, addresses, routes and sysctls.")


def request(lab: Lab, url: str, lips: tuple[str, ...]) -> None:
    """Send REQUESTS requests, a connection each, and print the tally of servers and of what they saw."""
    servers: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for _ in range(REQUESTS):
        answer = lab.run("client", [*CURL, url]).stdout
        match = ANSWER.fullmatch(answer)
        if not match:
            raise LabError(f"an answer from {url} that none of the servers gives: {answer!r}")
        servers[match["server"]] += 1
        seen[match["client"]] += 1
    print(f"  {url}  {REQUESTS} requests")
    print(f"    answered by   {tally(servers)}")
    print(f"    servers saw   {tally(seen)}")
    if missing := set(lab.servers) - set(servers):
        raise LabError(f"{REQUESTS} requests to {url}, and none reached {', '.join(sorted(missing))}")
    if strangers := set(seen) - set(lips):
        raise LabError(f"the servers saw {', '.join(sorted(strangers))}, which is no LIP")


def echo(balancer: Balancer) -> None:
    """Print what fullnat has said since the last time."""
    for line in balancer.follow():
        quote(line)


def quote(line: str) -> None:
    """Print a line of fullnat's."""
    print(f"  | {line}", flush=True)


def tally(counts: Counter[str]) -> str:
    """The counts in the order of their names."""
    return "   ".join(f"{name} x {count}" for name, count in sorted(counts.items()))


def say(text: str) -> None:
    """Print a heading."""
    print(f"== {text}")


def indented(text: str) -> str:
    """The text, two columns to the right."""
    return "\n".join(f"  {line}".rstrip() for line in text.rstrip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
