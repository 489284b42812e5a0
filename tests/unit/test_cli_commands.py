# SPDX-License-Identifier: Apache-2.0
"""The commands that speak to an instance, and those about other programs' files: words and exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fullnat import __version__, cli
from fullnat.cli import commands, foreign
from fullnat.control import paths
from fullnat.control.access import Role
from fullnat.control.events import Kind
from fullnat.core.service import Admin
from fullnat.core.timeouts import SECOND
from fullnat.ipvsadm.usage import VERSION
from tests.instances import CONFIG, ONE, TWO, As, Client, Run, talk
from tests.packets import tcp
from tests.vectors.case import V4


@pytest.fixture(autouse=True)
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the instance's socket be in a folder of the test's."""
    monkeypatch.setattr(paths, "socket_path", lambda instance: tmp_path / f"{instance}.sock")
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def busy(tmp_path: Path) -> Run:
    """An instance with one established connection to server one."""
    made = Run(tmp_path, engine="python")
    made.send(tcp(V4.to_vip(), "S"))
    made.send(tcp(V4.from_server(), "SA"))
    made.send(tcp(V4.to_vip(), "A"))
    made.now = 2 * SECOND
    return made


def alone(*arguments: str, text: str | None = None) -> Result:
    """Give a command where no instance runs."""
    return CliRunner().invoke(commands, arguments, input=text)


def give(run: Run, *arguments: str, text: str | None = None, role: Role | None = None) -> Result:
    """Give a command while the instance runs."""

    async def conversation(client: Client) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, lambda: alone(*arguments, text=text))

    return talk(run, conversation, None if role is None else As(role))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["show"], "Missing argument"),
        (["show", "everything"], "'everything' is not one of 'services', 'servers', 'checks',"),
        (["show", "flows", "--limit", "x"], "'x' is not a valid integer"),
        (["show", "flows", "--watch", "0"], "is not in the range"),
        (["set", "web"], "Missing argument 'ADDRESS:PORT'"),
        (["set", "web", ONE], "give --weight, --state, or both"),
        (["set", "web", ONE, "--weight", "65536"], "65536 is not in the range 0<=x<=65535"),
        (["set", "web", ONE, "--state", "out"], "'out' is not one of 'enabled', 'drain', 'disabled'"),
        (["drain", "web", ONE, "--deadline", "soon"], "'soon' is not a duration like 30s, 5m or 1h"),
        (["drain", "web", ONE, "--deadline", "-3s"], "'-3s' is not a duration"),
        (["stop", "--keep", "--handover"], "--handover keeps the flows as well; leave --keep out"),
        (["import", "nginx", "-"], "'nginx' is not one of 'keepalived', 'ldirectord', 'ipvsadm', 'haproxy'"),
        (["run"], "Missing option '-c' / '--config'"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told(arguments: list[str], words: str) -> None:
    said = alone(*arguments)
    assert said.exit_code == 2
    assert said.stdout == ""
    assert words in " ".join(said.stderr.split())


def test_every_command_has_help() -> None:
    for name in commands.commands:
        if name != "ipvsadm":
            said = alone(name, "-h")
            assert (said.exit_code, said.stderr) == (0, "")
            assert said.stdout.startswith("Usage: ")
    assert alone("--version").stdout == f"fullnat, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["show", "servers"],
        ["events"],
        ["events", "--follow"],
        ["set", "web", ONE, "--weight", "1"],
        ["drain", "web", ONE],
        ["enable", "web", ONE],
        ["disable", "web", ONE],
        ["reset", "web", ONE],
        ["reload"],
        ["ipvsadm", "-Ln"],
    ],
    ids=lambda words: words[0],
)
def test_where_none_runs_one_line_says_so(where: Path, arguments: list[str]) -> None:
    said = alone(*arguments)
    assert (said.exit_code, said.stdout) == (1, "")
    socket = where / "main.sock"
    absent = f"no instance runs in this network namespace: nothing listens on {socket}"
    assert said.stderr == f"fullnat: {absent}\n"


@pytest.mark.parametrize(
    "arguments", [["status"], ["reload"], ["set", "web", ONE, "--weight", "1"], ["events", "-f"]]
)
def test_who_may_not_is_told_so_and_with_another_status(run: Run, arguments: list[str]) -> None:
    said = give(run, *arguments, role=Role.NOBODY)
    assert (said.exit_code, said.stdout) == (5, "")
    assert said.stderr.startswith("fullnat: this takes the role ")
    assert said.stderr.count("\n") == 1


def test_status_is_lines_or_json(run: Run) -> None:
    lines = give(run, "status").stdout.splitlines()
    assert {"instance: main", "engine: kernel", "services: tcp://203.0.113.10:80"} <= set(lines)
    assert "reload: successes 0, failures 0" in lines
    assert json.loads(give(run, "status", "--json").stdout)["pid"] == 812


@pytest.mark.parametrize("what", ["services", "servers", "flows", "ports", "stats"])
def test_show_prints_a_table_or_json(busy: Run, what: str) -> None:
    said = give(busy, "show", what)
    assert (said.exit_code, said.stderr) == (0, "")
    words = {"services": "203.0.113.10:80", "stats": "flow_opened"}
    assert words.get(what, ONE) in said.stdout
    assert json.loads(give(busy, "show", what, "--json").stdout)


def test_show_checks_leaves_out_who_has_none(run: Run) -> None:
    assert json.loads(give(run, "show", "checks", "--json").stdout) == []


def test_a_server_is_set_and_what_it_is_then_is_said(busy: Run) -> None:
    assert give(busy, "set", "web", ONE, "--weight", "9").stdout == (
        f"web {ONE}: enabled, unknown, weight 9, 1 flows\n"
    )
    assert give(busy, "drain", "web", ONE, "--deadline", "1m").stdout == (
        f"web {ONE}: drain, unknown, weight 9, 1 flows\n"
    )
    wish = busy.roster.wish_for(busy.server(ONE))
    assert wish
    assert wish.deadline == busy.now + 60 * SECOND
    assert give(busy, "disable", "web", ONE).stdout.startswith(f"web {ONE}: disabled, ")
    assert (
        json.loads(give(busy, "enable", "tcp://203.0.113.10:80", ONE, "--json").stdout)["admin"] == "enabled"
    )
    assert give(busy, "reset", "web", ONE).stdout == f"web {ONE}: 1 flows ended\n"
    assert give(busy, "reset", "web", ONE).stdout == f"web {ONE}: 0 flows ended\n"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("30s", 30 * SECOND),
        ("5m", 300 * SECOND),
        ("1h", 3600 * SECOND),
        ("250ms", SECOND // 4),
        ("7", 7 * SECOND),
        ("1.5s", 3 * SECOND // 2),
    ],
)
def test_a_duration_is_as_the_configuration_has_it(run: Run, text: str, nanoseconds: int) -> None:
    assert give(run, "drain", "web", ONE, "--deadline", text).exit_code == 0
    wish = run.roster.wish_for(run.server(ONE))
    assert wish
    assert wish.deadline == nanoseconds


@pytest.mark.parametrize(
    ("service", "server", "words"),
    [
        ("nobody", ONE, "no service 'nobody'"),
        ("web", "198.19.0.77:80", "service web has no server 198.19.0.77:80"),
        ("web", "one", "'one' is not ADDRESS:PORT"),
        ("a/../b?c#d", ONE, "no service 'a/../b?c#d'"),
    ],
)
def test_a_server_that_is_not_there_is_told(run: Run, service: str, server: str, words: str) -> None:
    said = give(run, "drain", service, server)
    assert (said.exit_code, said.stdout, said.stderr) == (1, "", f"fullnat: {words}\n")


@pytest.mark.parametrize("name", ["web", "tcp://203.0.113.10:80"])
def test_a_drain_is_waited_for(run: Run, name: str) -> None:
    said = give(run, "drain", name, TWO, "--wait")
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        f"web {TWO}: drain, unknown, weight 1, 0 flows",
        f"web {TWO}: drained",
    ]
    assert run.server(TWO).admin is Admin.QUIESCED
    as_json = give(run, "drain", name, TWO, "--wait", "--json")
    assert json.loads(as_json.stdout)["drain"]["left"] == 0


def test_what_is_left_of_a_drain_is_said_until_somebody_ends_it(busy: Run) -> None:
    async def conversation(client: Client) -> Result:
        loop = asyncio.get_running_loop()
        waiting = loop.run_in_executor(None, lambda: alone("drain", "web", ONE, "--wait"))
        async with asyncio.timeout(10):
            while busy.server(ONE).admin is not Admin.QUIESCED:
                await asyncio.sleep(0.005)
            await client.get("/v1/servers")
        busy.roster.set_admin(busy.served(), busy.server(ONE), Admin.ENABLED, 0)
        return await waiting

    said = talk(busy, conversation)
    assert said.exit_code == 1
    assert said.stderr.endswith(f"fullnat: web {ONE} drains no more: somebody enabled it, or it is gone\n")


def test_a_reload_says_what_it_changes(run: Run) -> None:
    run.write(CONFIG.replace('"rr"', '"wlc"'))
    assert give(run, "reload", "--dry-run").stdout == "~ service web: scheduler rr -> wlc\n"
    assert give(run, "reload").stdout == "~ service web: scheduler rr -> wlc\n"
    assert give(run, "reload").stdout == "no changes\n"
    assert json.loads(give(run, "reload", "--json").stdout) == {"changes": [], "applied": True}


def test_a_reload_of_a_file_with_mistakes_tells_each(run: Run) -> None:
    run.file.write_text(CONFIG.replace('"rr"', '"rrr"').replace("weight = 3", "weight = -3"))
    said = give(run, "reload")
    assert (said.exit_code, said.stdout) == (1, "")
    first, second = said.stderr.splitlines()
    assert "lb.toml:8: service[1].scheduler: " in first
    assert "lb.toml:12: service[1].server[1].weight: " in second


def test_events_are_lines_or_json(run: Run) -> None:
    run.events.add(Kind.SERVER_DOWN, service="web", server=ONE)
    line = give(run, "events").stdout
    assert line.endswith(f" FN2002 server-down service=web server={ONE}\n")
    assert json.loads(give(run, "events", "--json").stdout)["sequence"] == 1


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["-Ln"], ["-Ln"]),
        (["-A", "-t", "203.0.113.11:80", "-s", "rr"], ["-A", "-t", "203.0.113.11:80", "-s", "rr"]),
        (["-Ln", "--instance", "b"], ["-Ln"]),
        (["--instance", "b", "-Ln"], ["-Ln"]),
        (["-L", "--stats", "-n", "x", "-h"], ["-L", "--stats", "-n", "x", "-h"]),
        ([], []),
        (["--help-me"], ["--help-me"]),
    ],
)
def test_words_for_ipvsadm_are_passed_on_as_they_are(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], passed: list[str]
) -> None:
    asked: list[object] = []

    def tell(instance: str, what: str, body: dict[str, object]) -> dict[str, object]:
        asked.append((instance, what, body["arguments"], body["input"]))
        return {"output": "out\n", "errors": "err\n", "status": 7}

    monkeypatch.setattr(foreign, "tell", tell)
    said = alone("ipvsadm", *arguments)
    assert (said.exit_code, said.stdout, said.stderr) == (7, "out\n", "err\n")
    assert asked == [("b" if "--instance" in arguments else "main", "ipvsadm", passed, "")]


@pytest.mark.parametrize("words", [["-v"], ["--version"], ["-h"], ["--help"]])
def test_what_needs_no_instance_asks_none(words: list[str]) -> None:
    said = alone("ipvsadm", *words)
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.startswith(VERSION)
    assert ("--fullnat" in said.stdout) == ("h" in words[0])


def test_a_restore_reads_its_lines_and_nothing_else_does(run: Run) -> None:
    line = "-A -t 203.0.113.11:80 -s rr\n"
    assert give(run, "ipvsadm", "-R", text=line).exit_code == 0
    assert "203.0.113.11:80 rr" in give(run, "ipvsadm", "-Ln", text="not read").stdout
    said = give(run, "ipvsadm", "-R", text=line)
    assert (said.exit_code, said.stdout, said.stderr) == (255, "", "Service already exists\n")


def test_a_link_of_that_name_speaks_that_language(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/sbin/ipvsadm", "-v"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().out) == (0, VERSION)


IPVS = "-A -t 203.0.113.10:80 -s rr\n-a -t 203.0.113.10:80 -r 198.19.0.11:80 -m\n"


def test_an_import_is_printed_and_can_be_served(where: Path) -> None:
    path = where / "rules"
    path.write_text(IPVS)
    said = alone("import", "ipvsadm", str(path), "--lip", "198.19.0.1")
    assert said.exit_code == 0
    assert said.stderr.startswith(f"{path}:1: changed: forwarding was NAT: is full NAT here")
    from_stdin = alone("import", "ipvsadm", "-", "--lip", "198.19.0.1", text=IPVS)
    assert from_stdin.stdout.splitlines()[1:] == said.stdout.splitlines()[1:]
    made = where / "made.toml"
    made.write_text(said.stdout)
    assert alone("check", str(made)).exit_code == 0


def test_an_import_that_leaves_something_says_what() -> None:
    said = alone("import", "ipvsadm", "-", text=IPVS)
    assert said.exit_code == 4
    assert "addresses" in said.stdout
    assert said.stderr


def test_an_import_of_nonsense_is_refused(where: Path) -> None:
    said = alone("import", "keepalived", "-", text="virtual_server 203.0.113.10 80 {\n")
    assert (said.exit_code, said.stdout, said.stderr) == (3, "", "-:1: virtual_server: its { is not closed\n")
    binary = where / "binary"
    binary.write_bytes(b"\xff\xfe")
    said = alone("import", "haproxy", str(binary))
    assert (said.exit_code, said.stderr) == (1, f"fullnat: {binary}: it is not UTF-8\n")
    said = alone("import", "haproxy", str(where / "absent"))
    assert (said.exit_code, said.stderr) == (1, f"fullnat: {where / 'absent'}: No such file or directory\n")


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (CONFIG, 0, "usable, 1 services, 3 servers"),
        (CONFIG.replace('"rr"', '"rrr"'), 3, "service[1].scheduler"),
        (CONFIG.partition("[[service]]")[0], 4, "nothing is balanced"),
    ],
)
def test_a_check_ends_with_the_verdict(where: Path, text: str, status: int, words: str) -> None:
    path = where / "c.toml"
    path.write_text(text)
    said = alone("check", str(path))
    assert said.exit_code == status
    assert words in said.output
