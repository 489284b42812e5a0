# SPDX-License-Identifier: Apache-2.0
"""Name what a kernel lacks, when iptables-restore has failed and says no more than a line number.

Every table, match and target that the rules use is tried alone, in a scratch chain that nothing
jumps to.  That costs some twenty processes, and only after a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fullnat.host.errors import HostError
from fullnat.host.programs import ProgramError, run_tolerant


class Feature(NamedTuple):
    """A rule that needs one thing of the kernel, and what that thing is called."""

    rule: str
    module: str
    option: str  # of the kernel's configuration


_FEATURES = {
    "raw": (
        Feature("-m comment --comment probe", "xt_comment", "NETFILTER_XT_MATCH_COMMENT"),
        Feature("-m mark --mark 1", "xt_mark", "NETFILTER_XT_MARK"),
        Feature("-p tcp -m tcp --dport 1:2", "xt_tcpudp", "NETFILTER_XTABLES"),
        Feature("-m set --match-set {ipset} dst", "xt_set", "NETFILTER_XT_SET"),
        Feature("-j CT --notrack", "xt_CT", "NETFILTER_XT_TARGET_CT"),
        Feature("-j NFQUEUE --queue-num 0", "xt_NFQUEUE", "NETFILTER_XT_TARGET_NFQUEUE"),
    ),
    "filter": (),
    "nat": (
        Feature("-m connmark --mark 1", "xt_connmark", "NETFILTER_XT_CONNMARK"),
        Feature("-m conntrack --ctorigdstport 1", "xt_conntrack", "NETFILTER_XT_MATCH_CONNTRACK"),
        Feature(
            "-m statistic --mode nth --every 2 --packet 0", "xt_statistic", "NETFILTER_XT_MATCH_STATISTIC"
        ),
        Feature("-m recent --set", "xt_recent", "NETFILTER_XT_MATCH_RECENT"),
        Feature("-j SET --add-set {ipset} src", "xt_set", "NETFILTER_XT_SET"),
        Feature("-p tcp -j DNAT --to-destination :1", "xt_nat", "NETFILTER_XT_NAT"),
    ),
}
_IPV6_FEATURES = {"raw": (Feature("-m frag", "ip6t_frag", "IP6_NF_MATCH_FRAG"),)}
_TABLE_FEATURES = {
    (4, "raw"): Feature("-j RETURN", "iptable_raw", "IP_NF_RAW"),
    (4, "filter"): Feature("-j RETURN", "iptable_filter", "IP_NF_FILTER"),
    (6, "raw"): Feature("-j RETURN", "ip6table_raw", "IP6_NF_RAW"),
    (6, "filter"): Feature("-j RETURN", "ip6table_filter", "IP6_NF_FILTER"),
    (4, "nat"): Feature("-j RETURN", "iptable_nat", "IP_NF_NAT"),
    (6, "nat"): Feature("-j RETURN", "ip6table_nat", "IP6_NF_NAT"),
}


def explain_failure(
    error: ProgramError, family: int, *, tables: Sequence[str], restore: Sequence[str], chain: str, ipset: str
) -> HostError:
    """Return what the kernel lacks, or *error* itself when everything is there.

    *tables* are those with rules, *restore* is the iptables-restore to try with, *chain* a free name,
    *ipset* a set that exists.
    """
    missing = []
    for table in tables:
        whole = _TABLE_FEATURES[family, table]
        if not _is_supported(restore, table, chain, whole.rule):
            missing.append(whole)
            continue
        more = _IPV6_FEATURES.get(table, ()) if family == 6 else ()
        missing += [
            feature
            for feature in (*_FEATURES[table], *more)
            if not _is_supported(restore, table, chain, feature.rule.format(ipset=ipset))
        ]
    if not missing:
        return error
    modules = " ".join(feature.module for feature in missing)
    options = ", ".join(f"CONFIG_{feature.option}" for feature in missing)
    return HostError(f"the kernel lacks what the rules need: modprobe -a {modules} ({options})")


def _is_supported(restore: Sequence[str], table: str, chain: str, rule: str) -> bool:
    tried = run_tolerant(restore, f"*{table}\n:{chain} - [0:0]\n-A {chain} {rule}\nCOMMIT\n")
    if tried.returncode == 0:
        run_tolerant(restore, f"*{table}\n-F {chain}\n-X {chain}\nCOMMIT\n")
    return tried.returncode == 0
