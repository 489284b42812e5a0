# SPDX-License-Identifier: Apache-2.0
"""The plan of kernel parameters from snapshots, and applying and undoing it on a kernel that is a dict."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullnat.host.errors import HostError
from fullnat.host.sysctl import ProcSys, Setting, apply_settings, plan_settings, sysctl_name, undo_setting

DEVICES = ("all", "default", "lo", "eth0", "eth1.100")

FRESH_V4 = {
    "net/ipv4/ip_forward": "0",
    **{f"net/ipv4/conf/{device}/forwarding": "0" for device in DEVICES},
    **{f"net/ipv4/conf/{device}/accept_redirects": "1" for device in DEVICES},
    **{f"net/ipv4/conf/{device}/accept_local": "0" for device in DEVICES},
    **{f"net/ipv4/conf/{device}/rp_filter": "0" for device in DEVICES},
    **{f"net/ipv4/conf/{device}/send_redirects": "1" for device in DEVICES},
}
FRESH_V6 = {
    **{f"net/ipv6/conf/{device}/forwarding": "0" for device in DEVICES},
    **{f"net/ipv6/conf/{device}/accept_ra": "1" for device in DEVICES},
}


class FakeKernel:
    """Parameters with the side effects of net/ipv4/devinet.c and net/ipv6/addrconf.c."""

    def __init__(self, values: dict[str, str], stuck: tuple[str, ...] = ()) -> None:
        self.values = dict(values)
        self.written: list[str] = []
        self._stuck = stuck

    def read(self, key: str) -> str | None:
        return self.values.get(key)

    def write(self, key: str, value: str) -> None:
        self.written.append(f"{key}={value}")
        if key in self._stuck or key not in self.values:
            return
        self.values[key] = value
        if key == "net/ipv4/ip_forward":
            self._set_all("net/ipv4", "forwarding", value)
            self.values["net/ipv4/conf/all/accept_redirects"] = "0" if value == "1" else "1"
        elif key == "net/ipv6/conf/all/forwarding":
            self._set_all("net/ipv6", "forwarding", value)

    def _set_all(self, family: str, name: str, value: str) -> None:
        for key in self.values:
            if key.startswith(f"{family}/conf/") and key.endswith(f"/{name}"):
                self.values[key] = value


def planned(snapshot: dict[str, str], *families: int, **options: bool) -> list[str]:
    return [str(setting) for setting in plan_settings(snapshot, families, **options)]


def test_a_fresh_host_gets_forwarding_accept_local_and_no_redirects() -> None:
    assert planned(FRESH_V4, 4) == [
        "net.ipv4.ip_forward = 1",
        "net.ipv4.conf.all.accept_local = 1",
        "net.ipv4.conf.all.send_redirects = 0",
        "net.ipv4.conf.default.send_redirects = 0",
        "net.ipv4.conf.eth0.send_redirects = 0",
        "net.ipv4.conf.eth1/100.send_redirects = 0",
        "net.ipv4.conf.lo.send_redirects = 0",
    ]


def test_only_families_in_use_are_planned() -> None:
    assert all(".ipv6." in line for line in planned(FRESH_V4 | FRESH_V6, 6))
    assert not any(".ipv6." in line for line in planned(FRESH_V4 | FRESH_V6, 4))


def test_router_advertisements_are_kept_before_ipv6_forwards() -> None:
    snapshot = FRESH_V6 | {"net/ipv6/conf/eth0/accept_ra": "0", "net/ipv6/conf/lo/accept_ra": "2"}
    assert planned(snapshot, 6) == [
        "net.ipv6.conf.default.accept_ra = 2",
        "net.ipv6.conf.eth1/100.accept_ra = 2",
        "net.ipv6.conf.all.forwarding = 1",
    ]


def test_a_host_that_forwards_ipv6_already_is_left_alone() -> None:
    assert planned(FRESH_V6 | {"net/ipv6/conf/all/forwarding": "1"}, 6) == []


def test_ipv6_services_on_a_host_without_ipv6_are_refused() -> None:
    with pytest.raises(HostError, match=r"no IPv6: boot without ipv6\.disable=1"):
        plan_settings(FRESH_V4, (4, 6))


@pytest.mark.parametrize(
    ("rp_filter", "expected"),
    [
        ({"all": "0"}, []),
        ({"all": "2", "eth0": "1"}, []),  # effective 2
        ({"all": "1"}, ["all=2"]),
        ({"all": "1", "eth0": "1", "default": "1"}, ["all=2"]),
        ({"all": "0", "eth0": "1", "eth1.100": "2"}, ["eth0=2"]),
        ({"all": "0", "default": "1"}, ["default=2"]),
    ],
)
def test_strict_rp_filter_becomes_loose_and_nothing_else_changes(
    rp_filter: dict[str, str], expected: list[str]
) -> None:
    snapshot = FRESH_V4 | {f"net/ipv4/conf/{device}/rp_filter": value for device, value in rp_filter.items()}
    settings = [setting for setting in plan_settings(snapshot, (4,)) if "rp_filter" in setting.key]
    assert [f"{setting.key.split('/')[3]}={setting.new}" for setting in settings] == expected


def test_rp_filter_goes_off_for_a_vip_without_a_route() -> None:
    snapshot = FRESH_V4 | {"net/ipv4/conf/all/rp_filter": "2", "net/ipv4/conf/eth0/rp_filter": "1"}
    settings = plan_settings(snapshot, (4,), unrouted_vip=True)
    changed = {setting.key: setting.new for setting in settings if "rp_filter" in setting.key}
    assert changed == {"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/eth0/rp_filter": "0"}


@pytest.mark.parametrize(("found", "expected"), [(None, True), ("0", True), ("1", False)])
def test_ipvs_lets_conntrack_know_also_before_its_module_is_there(found: str | None, expected: bool) -> None:
    snapshot = FRESH_V4 | ({"net/ipv4/vs/conntrack": found} if found else {})
    assert ("net.ipv4.vs.conntrack = 1" in planned(snapshot, 4, ipvs=True)) == expected
    assert "net.ipv4.vs.conntrack = 1" not in planned(snapshot, 4)


def test_forwarding_remembers_what_the_kernel_resets_with_it() -> None:
    odd = FRESH_V4 | {"net/ipv4/conf/eth0/forwarding": "1", "net/ipv4/conf/all/accept_redirects": "0"}
    forwarding = plan_settings(odd, (4,))[0]
    assert forwarding.also == {
        "net/ipv4/conf/default/forwarding": "0",
        "net/ipv4/conf/lo/forwarding": "0",
        "net/ipv4/conf/eth0/forwarding": "1",
        "net/ipv4/conf/eth1.100/forwarding": "0",
        "net/ipv4/conf/all/accept_redirects": "0",
    }


@pytest.mark.parametrize("stop_after", range(14))
def test_undo_restores_every_value_wherever_the_process_died(stop_after: int) -> None:
    odd = (
        FRESH_V4
        | FRESH_V6
        | {
            "net/ipv4/conf/eth0/forwarding": "1",
            "net/ipv4/conf/all/accept_redirects": "0",
            "net/ipv4/conf/all/rp_filter": "1",
            "net/ipv6/conf/eth0/forwarding": "1",
        }
    )
    kernel = FakeKernel(odd)
    settings = plan_settings(odd, (4, 6))
    assert len(settings) == 13
    recorded: list[Setting] = []
    apply_settings(settings[:stop_after], kernel, recorded.append)
    for setting in reversed(recorded):
        undo_setting(setting, kernel)
    assert kernel.values == odd


def test_after_applying_there_is_nothing_left_to_plan() -> None:
    kernel = FakeKernel(FRESH_V4 | FRESH_V6)
    apply_settings(plan_settings(kernel.values, (4, 6)), kernel, lambda setting: None)
    assert plan_settings(kernel.values, (4, 6)) == []


def test_each_change_is_recorded_before_it_is_made() -> None:
    kernel = FakeKernel(FRESH_V4)
    unwritten: list[bool] = []
    apply_settings(
        plan_settings(FRESH_V4, (4,)),
        kernel,
        lambda setting: unwritten.append(kernel.read(setting.key) == setting.old),
    )
    assert unwritten == [True] * 7


def test_a_value_that_does_not_stick_is_told() -> None:
    kernel = FakeKernel(FRESH_V4, stuck=("net/ipv4/conf/all/accept_local",))
    with pytest.raises(
        HostError, match=r"^net\.ipv4\.conf\.all\.accept_local was set to 1 and still reads 0$"
    ):
        apply_settings(plan_settings(FRESH_V4, (4,)), kernel, lambda setting: None)


def test_undo_leaves_what_someone_else_has_set_since() -> None:
    kernel = FakeKernel(FRESH_V4 | {"net/ipv4/conf/eth0/rp_filter": "0"})
    undo_setting(Setting("net/ipv4/conf/eth0/rp_filter", "1", "2"), kernel)
    assert kernel.values["net/ipv4/conf/eth0/rp_filter"] == "0"
    assert kernel.written == []


def test_undo_goes_on_where_an_undo_was_killed() -> None:
    """ip_forward was written back, and the process died before the values it resets were."""
    odd = FRESH_V4 | {"net/ipv4/conf/eth0/forwarding": "1"}
    kernel = FakeKernel(odd)
    setting = plan_settings(odd, (4,))[0]
    kernel.write(setting.key, "1")
    kernel.write(setting.key, "0")
    assert kernel.values["net/ipv4/conf/eth0/forwarding"] == "0"
    undo_setting(setting, kernel)
    assert kernel.values == odd


def test_a_device_that_is_gone_is_no_error() -> None:
    kernel = FakeKernel(FRESH_V4)
    undo_setting(Setting("net/ipv4/conf/gone/rp_filter", "1", "2"), kernel)
    apply_settings([Setting("net/ipv4/conf/gone/rp_filter", "1", "2")], kernel, lambda setting: None)
    assert kernel.values == FRESH_V4


def test_settings_survive_the_journal() -> None:
    setting = plan_settings(FRESH_V4, (4,))[0]
    assert Setting.from_json(setting.to_json()) == setting


def test_names_are_written_as_sysctl_writes_them() -> None:
    assert sysctl_name("net/ipv4/conf/eth1.100/rp_filter") == "net.ipv4.conf.eth1/100.rp_filter"


def test_proc_sys_reads_what_there_is(tmp_path: Path) -> None:
    for key in ("net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/all/other"):
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1\n")
    kernel = ProcSys(tmp_path)
    assert kernel.snapshot() == {"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "1"}
    kernel.write("net/ipv4/ip_forward", "0")
    assert kernel.read("net/ipv4/ip_forward") == "0"
    kernel.write("net/ipv4/conf/gone/rp_filter", "0")
    assert kernel.read("net/ipv4/conf/gone/rp_filter") is None
