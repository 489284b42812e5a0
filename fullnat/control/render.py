# SPDX-License-Identifier: Apache-2.0
"""`fullnat render`: the services of a config as a script for the kernel's own tools.

    iptables   DNAT and SNAT, chains per service and server; a shell script
    ipvsadm    IPVS, and for full NAT SNAT by iptables; a shell script
    nft        a ruleset, for `nft -f`

A script can be run again: it replaces what it made.  One that fails leaves all as it was, but for
sysctls.  What the tool cannot do as the config has it is said in a comment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fullnat.control.build import MARK
from fullnat.control.config.model import Config
from fullnat.control.kernel import engine_services, kernel_services
from fullnat.core.addr import PortRange
from fullnat.host.errors import HostError
from fullnat.kernel import iptables, ipvs, nft, script, snat
from fullnat.kernel.names import comment_prefix
from fullnat.kernel.service import KernelService, LocalPool

_FORWARDING = {4: "net.ipv4.ip_forward=1", 6: "net.ipv6.conf.all.forwarding=1"}

# ipvsadm says on stderr alone that a line went wrong.
_IPVS_FUNCTIONS = r"""
# drop: take out the virtual services whose addresses are on stdin
drop() {
	while read -r address; do
		ipvsadm -D $address 2>/dev/null || :
	done
}

# restore: make the virtual services on stdin
restore() {
	said=$(ipvsadm --restore 2>&1) && [ -z "$said" ] || {
		echo "ipvsadm: $said" >&2
		return 1
	}
}
"""


def render(config: Config, tool: str, ports: PortRange) -> str:
    """Return the script for *tool*, one of TOOLS; *ports* are those to use on each local address.

    HostError when the tool cannot have a service.
    """
    others = kernel_services(config)
    if others and tool != _FOR_ALL:
        raise HostError(f"{tool} cannot have {others[0]}, which IPVS serves: fullnat render {_FOR_ALL}")
    services = (*engine_services(config), *others)
    lines = TOOLS[tool](config, services, LocalPool(config.snat.addresses, ports))
    return "".join(f"{line}\n" for line in lines)


def _iptables(config: Config, services: Sequence[KernelService], pool: LocalPool) -> list[str]:
    rules = {
        family: iptables.full_nat_rules(config.instance, services, pool, family, MARK)
        for family in _families(services)
    }
    return [
        *_head(config, "iptables", services, iptables.differences),
        *script.functions(config.instance),
        *script.put_back(),
        *_load(rules),
        *_sysctls(_FORWARDING[family] for family in rules),
    ]


def _ipvsadm(config: Config, services: Sequence[KernelService], pool: LocalPool) -> list[str]:
    wanted = ipvs.desired(services)
    rules = {
        family: snat.served_rules(config.instance, services, pool, family, MARK)
        for family in _families(services)
    }
    settings = [f"{key.replace('/', '.')}={value}" for key, value in snat.SYSCTLS.items()]
    named = f's/.*--comment "{comment_prefix(config.instance)}{snat.IPVS_COMMENT}\\([^"]*\\)".*/\\1/p'
    return [
        *_head(config, "ipvsadm", services, ipvs.differences),
        *script.functions(config.instance),
        *_IPVS_FUNCTIONS.rstrip("\n").splitlines(),
        "",
        "modprobe -q ip_vs || :",
        *_sysctls(settings),
        "",
        "# What is there of these virtual services, and of those that an earlier run made",
        "wanted=$(cat <<'EOF'",
        *wanted,
        "EOF",
        ")",
        f"old=$({{ ours iptables filter; ours ip6tables filter; }} | sed -n '{named}')",
        "lines=$(printf '%s\\n' \"$wanted\" \"$old\" | sed -n 's/^-.*/ & -s \\n & -r /p')",
        'present=$(ipvsadm -Sn | grep -F "$lines" || :)',
        *script.put_back(
            (
                'printf \'%s\\n\' "$wanted" "$old" | drop',
                "# Without thresholds, which ipvsadm does not save.",
                '[ -z "$present" ] || printf \'%s\\n\' "$present" | restore',
            )
        ),
        *_load(rules),
        'printf \'%s\\n\' "$wanted" "$old" | drop',
        "restore <<'EOF'",
        *ipvs.plan(wanted, {}),
        "EOF",
        *_sysctls(_FORWARDING[family] for family in rules),
    ]


def _nft(config: Config, services: Sequence[KernelService], pool: LocalPool) -> list[str]:
    families = _families(services)
    lines = ["#!/usr/sbin/nft -f", *_about(config, "nft", services, nft.differences)]
    lines.append("# What other tables drop in their forward hooks stays dropped.")
    lines += [f"# Needs: sysctl -w {_FORWARDING[family]}" for family in families]
    for family in _FORWARDING:
        if family in families:
            lines += nft.script(config.instance, services, pool, family, MARK).splitlines()
        else:
            lines += nft.removal(config.instance, family)
    return lines


TOOLS: dict[str, Callable[[Config, Sequence[KernelService], LocalPool], list[str]]] = {
    "iptables": _iptables,
    "ipvsadm": _ipvsadm,
    "nft": _nft,
}

_FOR_ALL = "ipvsadm"  # the tool that has services by mark, and by other ways than full NAT

Differences = Callable[[KernelService], list[str]]


def _head(
    config: Config, tool: str, services: Iterable[KernelService], differences: Differences
) -> list[str]:
    return [
        "#!/bin/sh",
        *_about(config, tool, services, differences),
        "set -feu",
        "",
        *script.refusal(config.instance),
    ]


def _about(
    config: Config, tool: str, services: Iterable[KernelService], differences: Differences
) -> list[str]:
    about = [
        f"{config.path.name} by {tool}: fullnat render {tool} -c {config.path.name}",
        "The virtual and the local addresses must be this host's.",
        "Run again, this replaces what it made; where it fails, all is as it was.",
    ]
    about += [
        f"Otherwise than there: {service}: {difference}"
        for service in services
        for difference in differences(service)
    ]
    return [f"# {line}" for text in about for line in text.splitlines()]


def _families(services: Iterable[KernelService]) -> list[int]:
    return sorted({service.family for service in services})


def _load(rules: dict[int, iptables.Rules]) -> list[str]:
    """Return the lines that load *rules* by family, and take out those of a family that has none now."""
    lines = []
    for family in script.PROGRAMS:
        lines += script.load(rules[family], family) if family in rules else script.unload(family)
    return lines


def _sysctls(settings: Iterable[str]) -> list[str]:
    return [f"sysctl -q -w {setting}" for setting in settings]
