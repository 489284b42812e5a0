# SPDX-License-Identifier: Apache-2.0
"""Finding a scheduler by what a config says, and what is said when there is none."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from textwrap import dedent

import pytest

from fullnat.control import schedulers
from fullnat.control.schedulers import load_scheduler
from fullnat.core.addr import UDP
from fullnat.core.sched import BUILTIN, Request
from tests.services import VIP, make_request, make_service

DOCS = Path(__file__).resolve().parents[2] / "docs" / "schedulers.md"

GOOD = """
from fullnat.core.sched import Scheduler

class Last(Scheduler):
    def schedule(self, request):
        return self.servers[-1] if self.servers else None
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], None]:
    """Write the file mine.py beside the config."""

    def write_file(source: str) -> None:
        (tmp_path / "mine.py").write_text(dedent(source))

    return write_file


def refusal(spec: str, base_dir: Path) -> str:
    """Return what load_scheduler says against *spec*."""
    with pytest.raises(ValueError) as caught:
        load_scheduler(spec, base_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize("name", sorted(BUILTIN))
    def test_built_in(self, name: str, tmp_path: Path) -> None:
        assert load_scheduler(name, tmp_path) is BUILTIN[name]

    @pytest.mark.parametrize(
        ("spec", "meant"), [("wcl", "wlc"), ("WLC", None), ("lbclr", "lblcr"), ("randon", "random")]
    )
    def test_a_misspelt_name(self, spec: str, meant: str | None, tmp_path: Path) -> None:
        message = refusal(spec, tmp_path)
        assert message.startswith(f"no scheduler is named {spec!r}")
        assert ("did you mean" in message) == (meant is not None)
        assert meant is None or f"did you mean {meant!r}?" in message
        assert "accepted: dh, fo, " in message
        assert message.endswith("or path/to/file.py:Class")

    def test_an_installed_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        point = EntryPoint("mine", "fullnat.core.sched.rr:RoundRobin", schedulers.ENTRY_POINT_GROUP)
        self.install(monkeypatch, point)
        assert load_scheduler("mine", tmp_path) is BUILTIN["rr"]
        assert "did you mean 'mine'?" in refusal("mime", tmp_path)

    def test_a_built_in_name_cannot_be_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        point = EntryPoint("wlc", "fullnat.core.sched.rr:RoundRobin", schedulers.ENTRY_POINT_GROUP)
        self.install(monkeypatch, point)
        assert load_scheduler("wlc", tmp_path) is BUILTIN["wlc"]

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("no_such_module_here:Class", "cannot be imported: ModuleNotFoundError: No module named"),
            ("fullnat.core.sched.rr:NoSuchClass", "cannot be imported: AttributeError: "),
            ("fullnat.core.sched:BUILTIN", "is not a subclass of fullnat.core.sched.Scheduler"),
            ("fullnat.core.sched:Scheduler", "does not define schedule()"),
        ],
    )
    def test_an_installed_one_that_is_broken(
        self, value: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.install(monkeypatch, EntryPoint("mine", value, schedulers.ENTRY_POINT_GROUP))
        message = refusal("mine", tmp_path)
        assert message.startswith(f"scheduler 'mine' ({value}) {says}")

    def install(self, monkeypatch: pytest.MonkeyPatch, point: EntryPoint) -> None:
        def entry_points(group: str) -> EntryPoints:
            assert group == "fullnat.schedulers"
            return EntryPoints([point])

        monkeypatch.setattr(schedulers, "entry_points", entry_points)


class TestFiles:
    def test_a_class_of_a_file_beside_the_config(self, tmp_path: Path, write: Callable[[str], None]) -> None:
        write(GOOD)
        scheduler = load_scheduler("mine.py:Last", tmp_path)
        assert scheduler.__name__ == "Last"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]  # nothing written

    def test_an_absolute_path(self, tmp_path: Path, write: Callable[[str], None]) -> None:
        write(GOOD)
        assert load_scheduler(f"{tmp_path}/mine.py:Last", Path("/")).__name__ == "Last"

    def test_a_changed_file_is_read_again(self, tmp_path: Path, write: Callable[[str], None]) -> None:
        write(GOOD + "VERSION = 1\n")
        first = load_scheduler("mine.py:Last", tmp_path)
        write(GOOD + "VERSION = 2\n")
        second = load_scheduler("mine.py:Last", tmp_path)
        assert first is not second
        assert sys.modules[second.__module__].VERSION == 2

    def test_a_file_may_use_dataclasses(self, tmp_path: Path, write: Callable[[str], None]) -> None:
        write(
            """
            from __future__ import annotations
            from dataclasses import dataclass, KW_ONLY
            from fullnat.core.sched import Scheduler

            @dataclass
            class Seen:
                _: KW_ONLY
                count: int = 0

            class Last(Scheduler):
                def schedule(self, request):
                    return None
            """
        )
        assert load_scheduler("mine.py:Last", tmp_path).__name__ == "Last"

    def test_no_such_file(self, tmp_path: Path) -> None:
        message = refusal("none.py:Last", tmp_path)
        assert message == f"cannot read {tmp_path}/none.py: No such file or directory"

    def test_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "dir.py").mkdir()
        assert refusal("dir.py:Last", tmp_path) == f"cannot read {tmp_path}/dir.py: Is a directory"

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ("mine.py", "'mine.py' names no class; write mine.py:Class"),
            ("mine:Last", "'mine:Last' is not path/to/file.py:Class: 'mine' does not end in .py"),
        ],
    )
    def test_a_half_written_spec(self, spec: str, says: str, tmp_path: Path) -> None:
        assert refusal(spec, tmp_path) == says

    def test_no_such_class(self, tmp_path: Path, write: Callable[[str], None]) -> None:
        write(GOOD)
        message = refusal("mine.py:Lost", tmp_path)
        assert message == f"{tmp_path}/mine.py has no class 'Lost' (did you mean 'Last'?); it has Last"
        write("")
        assert refusal("mine.py:Last", tmp_path).endswith("has no class 'Last'; it has no scheduler at all")

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            ("Last = 5", "mine.py:Last is not a subclass of fullnat.core.sched.Scheduler"),
            ("class Last: pass", "mine.py:Last is not a subclass of fullnat.core.sched.Scheduler"),
            (
                "from fullnat.core.sched import Scheduler\nclass Last(Scheduler): pass",
                "mine.py:Last does not define schedule()",
            ),
        ],
    )
    def test_something_else_by_that_name(
        self, source: str, says: str, tmp_path: Path, write: Callable[[str], None]
    ) -> None:
        write(source)
        assert refusal("mine.py:Last", tmp_path) == f"{tmp_path}/{says}"

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            ("\n\ndef broken(:\n", "mine.py:3: SyntaxError: invalid syntax"),
            ("if True:\npass\n", "mine.py:2: IndentationError: expected an indented block"),
            ("\nx = no_such_name\n", "mine.py:2: NameError: name 'no_such_name' is not defined"),
            ("import no_such_module", "mine.py:1: ModuleNotFoundError: No module named 'no_such_module'"),
            ("\ndef f():\n  1/0\nf()", "mine.py:3: ZeroDivisionError: division by zero"),
            ("\nimport json\njson.loads('?')", "mine.py:3: JSONDecodeError: Expecting value"),
            ("raise SystemExit(3)", "mine.py:1: SystemExit: 3"),
            ("raise ValueError('one\\ntwo')", "mine.py:1: ValueError: one two"),
            ("x = '\\0'\nx = '\0'", "mine.py"),
        ],
    )
    def test_an_error_in_the_file_names_file_and_line(
        self, source: str, says: str, tmp_path: Path, write: Callable[[str], None]
    ) -> None:
        write(source)
        before = set(sys.modules)
        assert refusal("mine.py:Last", tmp_path).startswith(f"{tmp_path}/{says}")
        assert not [name for name in set(sys.modules) - before if "mine" in name]

    def test_a_broken_edit_leaves_the_module_that_runs(
        self, tmp_path: Path, write: Callable[[str], None]
    ) -> None:
        write(GOOD)
        scheduler = load_scheduler("mine.py:Last", tmp_path)
        module = sys.modules[scheduler.__module__]
        write("1/0")
        refusal("mine.py:Last", tmp_path)
        assert sys.modules[scheduler.__module__] is module

    def test_a_file_that_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_bytes(b"\xff\xfe\x00")
        assert refusal("mine.py:Last", tmp_path).startswith(f"{tmp_path}/mine.py")


class TestDocumentation:
    """docs/schedulers.md: its example runs, its table is complete."""

    def query(self, name: bytes) -> Request:
        message = bytes(12) + bytes([len(name)]) + name + b"\x03net\x00" + b"\x00\x01\x00\x01"
        return Request(make_request().client, VIP, UDP, message, now=0)

    def test_the_example_sends_questions_about_one_name_to_one_resolver(self, tmp_path: Path) -> None:
        text = DOCS.read_text()
        (source,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
        (spec,) = re.findall(r'^scheduler = "(.*:.*)"$', text, flags=re.MULTILINE)
        (tmp_path / spec.split(":")[0]).write_text(source)
        service = make_service("rr", [1, 1, 1])
        service.scheduler = load_scheduler(spec, tmp_path)()
        service.set_servers(service.servers)
        choose = service.scheduler.schedule

        names = [b"name%d" % number for number in range(60)]
        picks = {name: choose(self.query(name)) for name in names}
        assert set(picks.values()) == set(service.servers)
        assert all(choose(self.query(name.upper())) is picks[name] for name in names)
        for server in service.servers[:2]:
            service.set_weight(server, 0)
        assert {choose(self.query(name)) for name in names} == {service.servers[2]}
        assert choose(make_request()) is service.servers[2]  # no payload at all
        service.set_weight(service.servers[2], 0)
        assert choose(self.query(b"name")) is None

    def test_the_table_has_every_scheduler_and_its_flags(self) -> None:
        rows = [line.split("|") for line in DOCS.read_text().splitlines() if line.startswith("| `")]
        listed = {row[1].strip(" `"): frozenset(re.findall(r"`([\w-]+)`", row[3])) for row in rows}
        assert listed == {name: scheduler.accepted_flags for name, scheduler in BUILTIN.items()}
