# SPDX-License-Identifier: Apache-2.0
"""The files below /proc/net, byte for byte as the kernel had them of an equal table."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from fullnat.core.addr import TCP, parse_endpoint
from fullnat.ipvsadm.commands import ServerSettings, ServiceAddress, ServiceSettings
from fullnat.ipvsadm.procfs import format_ip_vs, format_ip_vs_conn, format_ip_vs_stats
from fullnat.ipvsadm.views import ServerView, ServiceView, Traffic
from fullnat.kernel.service import Forward, Fwmark, KernelPersistence, KernelServer
from tests.ipvsadm_table import ALL_RATES, ALL_TOTALS, EXPIRES, connections, recorded, table


def test_services_and_servers() -> None:
    assert format_ip_vs(table()) == recorded("proc-ip_vs")
    assert format_ip_vs([]) == recorded("empty-ip_vs")


def test_counters() -> None:
    assert format_ip_vs_stats(ALL_TOTALS, ALL_RATES) == recorded("proc-ip_vs_stats")
    assert format_ip_vs_stats(Traffic(), Traffic()) == recorded("empty-ip_vs_stats")


def test_counters_as_the_exporter_has_them_in_its_own_tests() -> None:
    """Wide numbers keep to their columns."""
    text = format_ip_vs_stats(
        Traffic(0x16AA370, 0xE33656E5, 0, 0x51D8C8883AB3, 0), Traffic(4, 0x1FB3C, 0, 0x1282A8F, 0)
    )
    assert text.splitlines()[2] == " 16AA370 E33656E5        0     51D8C8883AB3                0"
    assert text.splitlines()[5] == "       4    1FB3C        0          1282A8F                0"


def test_connections() -> None:
    assert format_ip_vs_conn(connections(EXPIRES["proc-ip_vs_conn"])) == recorded("proc-ip_vs_conn")
    assert format_ip_vs_conn([]) == recorded("empty-ip_vs_conn")


def test_full_nat_is_nat_to_who_reads_these_files() -> None:
    server = ServerView(ServerSettings(KernelServer(parse_endpoint("198.19.0.11:80")), Forward.FULLNAT), 2, 1)
    view = ServiceView(ServiceAddress(TCP, parse_endpoint("203.0.113.10:80")), ServiceSettings(), (server,))
    assert format_ip_vs([view]).splitlines()[3:] == [
        "TCP  CB00710A:0050 wlc  ",
        "  -> C613000B:0050      Masq    1      2          1         ",
    ]


def test_masks_are_as_the_kernel_keeps_them() -> None:
    web = ServiceView(
        ServiceAddress(0, Fwmark(7)), ServiceSettings("rr", persistence=KernelPersistence(60, 0))
    )
    assert format_ip_vs([web]).splitlines()[-1] == "FWM  00000007 rr persistent 15000 00000000"
    wide = replace(
        web,
        service=ServiceAddress(0, Fwmark(7, 6)),
        settings=replace(web.settings, persistence=KernelPersistence(60, 128)),
    )
    assert format_ip_vs([wide]).splitlines()[-1] == "FWM  00000007 rr persistent 15000 80000000"
    assert IPv4Address("203.0.113.10") == IPv4Address(0xCB00710A)
