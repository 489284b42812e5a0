# SPDX-License-Identifier: Apache-2.0
"""The command line as a person meets it: exit codes, one clear line for each failure, and every view.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 config unusable; 4 usable with warnings; 5 not permitted.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from balancer import Balancer, program
from hoststate import HostState
from lab import Lab
from tests.netns.conversations import Browser, ask
from tests.netns.traffic import vips

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables")

VIEWS = ("services", "servers", "flows", "ports", "persistence", "stats")


@pytest.fixture
def datapath() -> str:
    """Whatever runs."""
    return "auto"


@pytest.fixture
def unchanged(lab: Lab) -> Iterator[HostState]:
    """Nothing that the test does may change the director."""
    before = HostState.of(lab)
    yield before
    assert before.changes_to(HostState.of(lab)) == []


def fullnat(lab: Lab, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `fullnat ARGUMENTS` on the director, through the program *before* if given."""
    return lab.run("director", [*before, *program(), *arguments], check=False, timeout=30)


def nobody(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `fullnat ARGUMENTS` on the director, not as root."""
    # May read every file, because the repository may be in a directory that only root may enter.
    kept = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    setpriv = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *kept)
    return fullnat(lab, *arguments, before=setpriv)


def without_program(lab: Lab, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `fullnat ARGUMENTS` where the program *name* cannot be executed."""
    path = shutil.which(name)
    assert path is not None
    # fullnat looks beyond PATH, so the program itself is hidden, in a mount namespace of its own.
    hide = f"mount --bind /dev/null {shlex.quote(os.path.realpath(path))}"
    script = f"{hide} && exec {shlex.join([*program(), *arguments])}"
    return lab.run("director", ["unshare", "--mount", "sh", "-c", script], check=False, timeout=30)


def one_line(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The only line that *done* printed, on standard error, with exit status *status*."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def write(lab: Lab, text: str) -> str:
    """Write a configuration and return its path."""
    path = lab.directory / "config.toml"
    path.write_text(text)
    lab.directory.chmod(0o755)  # not only root is to read it
    path.chmod(0o644)
    return str(path)


# check


@pytest.mark.usefixtures("unchanged")
def test_check_of_a_usable_config(lab: Lab) -> None:
    path = write(lab, lab.config())
    done = fullnat(lab, "check", path)
    assert done.returncode == 0
    assert done.stdout == f"{path}: usable, 2 services, 6 servers\n"
    assert done.stderr == ""


BROKEN = "weight = -3\n  wieght = 2"


def broken(lab: Lab) -> str:
    return write(
        lab, lab.config(weights=(1, 1, 1), families=(4,)).replace("weight = 1", BROKEN, 1) + "\ninstence = 1"
    )


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "command", [["check"], ["run", "-c"], ["run", "--dry-run", "-c"]], ids=["check", "run", "dry run"]
)
def test_every_mistake_of_an_unusable_config_is_told(lab: Lab, command: list[str]) -> None:
    path = broken(lab)
    done = fullnat(lab, *command, path)
    assert done.returncode == 3
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    text = Path(path).read_text().splitlines()
    places = {
        key: 1 + next(n for n, line in enumerate(text) if key in line)
        for key in ("weight = -3", "wieght", "instence")
    }
    assert len(lines) == 3
    assert any(line.startswith(f"{path}:{places['weight = -3']}: ") and "found -3" in line for line in lines)
    assert any(
        line.startswith(f"{path}:{places['wieght']}: ") and 'did you mean "weight"' in line for line in lines
    )
    assert any(line.startswith(f"{path}:{places['instence']}: ") for line in lines)


@pytest.mark.usefixtures("unchanged")
def test_check_tells_warnings_and_exits_4(lab: Lab) -> None:
    path = write(lab, lab.config(extra="[timeouts]\nudp = 60"))
    done = fullnat(lab, "check", path)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{path}:")
    assert "warning: timeouts.udp: found 60" in line
    assert "usable" in done.stdout


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("command", [["check"], ["run", "-c"]], ids=["check", "run"])
@pytest.mark.parametrize("content", [None, "version = \n"], ids=["no file", "no TOML"])
def test_a_file_that_cannot_be_read_is_one_line(lab: Lab, command: list[str], content: str | None) -> None:
    path = str(lab.directory / "nowhere.toml") if content is None else write(lab, content)
    assert one_line(fullnat(lab, *command, path), 3).startswith(path)


def test_run_shows_the_warnings_and_serves(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer(lab.config(extra="[timeouts]\nudp = 60"))
    assert "warning: timeouts.udp: found 60" in running.log
    assert ask(lab, "client", lab.vips4[0]).server == "server1"


# run, and what keeps it from running


@pytest.mark.usefixtures("unchanged")
def test_run_by_somebody_who_is_not_root(lab: Lab) -> None:
    line = one_line(nobody(lab, "run", "-c", write(lab, lab.config())), 5)
    assert "CAP_NET_ADMIN" in line
    assert "run fullnat as root" in line


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("ipset", "ipset"),
        ("iptables-save", "iptables"),
        ("ip", "iproute2"),
    ],
)
def test_a_missing_program_is_named_with_its_package(lab: Lab, name: str, package: str) -> None:
    line = one_line(without_program(lab, name, "run", "-c", write(lab, lab.config())), 1)
    assert "is missing" in line
    assert name.partition("-")[0] in line
    assert line.endswith(f"apt-get install {package}")


@pytest.mark.usefixtures("unchanged")
def test_local_ports_that_the_host_uses_itself_are_refused(lab: Lab) -> None:
    path = write(lab, lab.config().replace("[snat]", '[snat]\nports = "30000-40000"'))
    for command in (["run", "-c", path], ["run", "--dry-run", "-c", path]):
        line = one_line(fullnat(lab, *command), 1)
        assert "30000-40000" in line
        assert "net.ipv4.ip_local_port_range 32768-60999" in line
        assert "1024-32767" in line


@pytest.mark.usefixtures("unchanged")
def test_addresses_are_only_added_where_that_is_allowed(lab: Lab) -> None:
    path = write(lab, lab.config().replace("[engine]", "[engine]\nadd_addresses = false"))
    line = one_line(fullnat(lab, "run", "-c", path), 1)
    assert "203.0.113.10/32 dev eth0" in line
    assert "ip addr add" in line


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "-c"],
        ["show"],
        ["show", "everything"],
        ["check"],
        ["serve"],
        ["run", "--datapath", "x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(lab: Lab, arguments: list[str]) -> None:
    done = fullnat(lab, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ") or "Usage: " in done.stdout + done.stderr


# --dry-run


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("run", [fullnat, nobody], ids=["root", "nobody"])
def test_a_dry_run_tells_what_would_be_set(
    lab: Lab, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run(lab, "run", "--dry-run", "-c", write(lab, lab.config()))
    assert done.returncode == 0, done.stderr
    for expected in (
        "create fn-main.v4.services hash:ip,port",
        f"add fn-main.v6.services {lab.vips6[0]},tcp:80",
        "# iptables-restore --noflush",
        "# ip6tables-restore --noflush",
        "NFQUEUE --queue-num 1080",
        "net.ipv4.ip_forward = 1  # now 0",
        "net.ipv6.conf.all.forwarding = 1  # now 0",
        f"ip addr add {lab.vips4[0]}/32 dev eth0",
        f"ip addr add {lab.lips6[1]}/128 dev eth1",
    ):
        assert expected in done.stdout


@pytest.mark.usefixtures("unchanged")
def test_a_dry_run_on_a_host_that_never_ran_it(lab: Lab) -> None:
    run = shlex.join([*program(), "run", "--dry-run", "-c", write(lab, lab.config())])
    script = f"mount -t tmpfs none /run && {run} && test ! -e /run/fullnat"
    done = lab.run("director", ["unshare", "--mount", "sh", "-c", script], check=False)
    assert done.returncode == 0, done.stderr
    assert "FULLNAT-main" in done.stdout


def test_what_a_dry_run_tells_is_what_a_run_sets(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    told = fullnat(lab, "run", "--dry-run", "-c", write(lab, lab.config())).stdout.splitlines()
    balancer()
    rules = "".join(lab.run("director", [f"ip{six}tables-save"]).stdout for six in ("", "6"))
    appended = [line for line in told if line.startswith("-A ")]
    assert len(appended) > 30
    assert [line for line in appended if line not in rules] == []
    members = lab.run("director", ["ipset", "save"]).stdout
    assert [line for line in told if line.startswith("add ") and line not in members] == []
    settings = [line.partition("  #")[0].split(" = ") for line in told if line.startswith("net.")]
    assert len(settings) >= 4
    for name, value in settings:
        assert lab.run("director", ["sysctl", "-n", name]).stdout.strip() == value


# show and status


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "command", [["show", "services"], ["show", "flows", "--json"], ["status"]], ids=" ".join
)
def test_asking_when_nobody_runs_is_one_line(lab: Lab, command: list[str]) -> None:
    assert "no instance runs" in one_line(fullnat(lab, *command), 1)
    assert "no instance runs" in one_line(fullnat(lab, *command, "--instance", "elsewhere"), 1)


@pytest.mark.usefixtures("unchanged")
def test_asking_when_the_instance_was_killed_is_one_line(lab: Lab) -> None:
    killed = Balancer(lab, lab.config())
    killed.start()
    killed.kill()
    assert "no instance runs" in one_line(fullnat(lab, "status"), 1)
    killed.start()
    assert killed.stop() == 0


def test_asking_without_permission_is_one_line(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    balancer()
    for command in (["show", "services"], ["status"]):
        assert "permission denied" in one_line(nobody(lab, *command), 5)


@pytest.mark.parametrize("instance", ["main", "a-b-c"])
def test_every_view_as_a_table_and_as_json(
    lab: Lab, balancer: Callable[..., Balancer], instance: str
) -> None:
    running = balancer(lab.config(instance=instance, service="persistence = { timeout = 60 }"))
    asking = ["--instance", instance]
    with Browser(lab, "client", lab.vips4[0]) as four, Browser(lab, "client", lab.vips6[0]) as six:
        four.ask(), six.ask()
        tables = {view: running.command("show", view, *asking).stdout for view in VIEWS}
        values = {view: json.loads(running.command("show", view, "--json", *asking).stdout) for view in VIEWS}
    for family in lab.families:
        vip, server = vips(lab, family)[0], lab.servers4[0] if family == 4 else lab.servers6[0]
        shown = {"services": vip, "servers": server, "flows": vip, "ports": server, "persistence": server}
        for view, address in shown.items():
            assert address in tables[view]
            assert address in json.dumps(values[view])
    assert [row["scheduler"] for row in values["services"]] == ["rr", "rr"]
    assert [row["active"] for row in values["servers"]] == [1, 0, 0, 1, 0, 0]
    assert {row["state"] for row in values["flows"]} == {"ESTABLISHED"}
    assert [row["in_use"] for row in values["ports"]] == [1, 1]
    assert [row["flows"] for row in values["persistence"]] == [1, 1]
    assert values["stats"]["reasons"]["flow_opened"]["count"] == 2
    assert "flow_opened" in tables["stats"]
    assert "no_flow" not in tables["stats"]  # only what has happened


def test_flows_are_shown_up_to_the_limit(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer()
    for _ in range(5):
        ask(lab, "client", lab.vips4[0])
    assert len(running.show("flows")) == 5
    assert len(json.loads(running.command("show", "flows", "--json", "--limit", "2").stdout)) == 2


def test_status_says_what_runs(lab: Lab, balancer: Callable[..., Balancer]) -> None:
    running = balancer(arguments=["--datapath", "python"])
    assert running.process is not None
    text = running.command("status").stdout
    for line in (
        "instance: main",
        f"pid: {running.process.pid}",
        "engine: python",
        "why: chosen; 1 worker",
        "queue: 1080",
        "local ports: 1024-32767",
    ):
        assert line in text.splitlines()
    values = json.loads(running.command("status", "--json").stdout)
    assert values["config"] == str(running.path)
    assert values["services"] == [f"tcp://{lab.vips4[0]}:80", f"tcp://[{lab.vips6[0]}]:80"]
    assert values["local_addresses"] == [*lab.lips4, *lab.lips6]
    assert values["uptime"] > 0


# --help


@pytest.mark.parametrize(
    "command", [[], ["run"], ["check"], ["show"], ["status"]], ids=lambda words: " ".join(words) or "fullnat"
)
def test_help_comes_at_once(command: list[str]) -> None:
    seconds = []
    for _ in range(3):  # the machine may be busy with something else
        begun = time.monotonic()
        done = subprocess.run(
            [*program(), *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        seconds.append(time.monotonic() - begun)
        assert done.stdout.startswith("Usage: ")
    assert min(seconds) < 0.5


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fullnat", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith("fullnat, version ")
