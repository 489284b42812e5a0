# SPDX-License-Identifier: Apache-2.0
"""Full NAT as a script for nft: the services of one family in a table of their own.

    prerouting, output   new connection to a service -> its connection is marked, dnat to a server of a map
    postrouting          marked connection to a service -> snat to a local address

The map is by turns (numgen inc), by chance in proportion to weights (numgen random), or, where clients
shall stay on a server, by a hash of their prefix, with a seed that is the same after the next start.

What is hashed are whole bytes of the address as it stands in the packet: nft (1.0.6) refuses to hash an
address that is masked.  Nothing is accepted in the forward hook: what another table drops there is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fullnat.core.addr import PROTOCOL_NAMES, TCP, Endpoint, IPAddress
from fullnat.kernel.iptables import consecutive
from fullnat.kernel.service import KernelService, LocalPool
from fullnat.kernel.shares import differences as shared_differences
from fullnat.kernel.shares import shares

_IP = {4: "ip", 6: "ip6"}
_OPENING = {TCP: "tcp flags & (syn | ack | rst | fin) == syn "}
_SADDR = {4: 96, 6: 64}  # the bit of the header at which the source address begins
_WHOLE = {4: 32, 6: 128}
_SEED = 0xF0117A7  # any but 0, for which the kernel takes another one each time


def script(instance: str, services: Iterable[KernelService], pool: LocalPool, family: int, mark: int) -> str:
    """Return the input of `nft -f -` for the services of *family*; loaded again, it replaces itself."""
    mine = [service for service in services if service.family == family]
    table = _table(instance, family)
    entry = [line for service in mine for line in _entry(service, mark)]
    exits = [line for service in mine for line in _exits(service, pool, mark)]
    lines = [*removal(instance, family), f"table {table} {{"]
    for name, hook, rules in (
        ("prerouting", "type nat hook prerouting priority dstnat", entry),
        ("output", "type nat hook output priority -100", entry),
        ("postrouting", "type nat hook postrouting priority srcnat", exits),
    ):
        lines += [f"\tchain {name} {{", f"\t\t{hook}; policy accept;"]
        lines += [f"\t\t{rule}" for rule in rules]
        lines.append("\t}")
    return "\n".join([*lines, "}", ""])


def removal(instance: str, family: int) -> list[str]:
    """Return the lines that take the table out, whether or not it is there."""
    return [f"table {_table(instance, family)}", f"delete table {_table(instance, family)}"]


def _table(instance: str, family: int) -> str:
    return f"{_IP[family]} fullnat_{instance.replace('-', '_')}"


def _entry(service: KernelService, mark: int) -> Iterator[str]:
    picked = _picked(service)
    if picked is None:
        return
    ip, listen = _IP[service.family], _endpoint(service)
    to = f"{ip} daddr {listen.address} {PROTOCOL_NAMES[service.protocol]} dport {listen.port}"
    opening = _OPENING.get(service.protocol, "")
    yield f"{to} {opening}ct mark set ct mark | {mark:#x} dnat {ip} to {picked}"


def _exits(service: KernelService, pool: LocalPool, mark: int) -> Iterator[str]:
    ip, listen, name = _IP[service.family], _endpoint(service), PROTOCOL_NAMES[service.protocol]
    match = (
        f"ct mark & {mark:#x} == {mark:#x} ct original {ip} daddr {listen.address} "
        f"meta l4proto {name} ct original proto-dst {listen.port}"
    )
    addresses = pool.of(service.family)
    left = len(addresses)
    for first, last in consecutive(addresses):
        size = int(last) - int(first) + 1
        chance = f" numgen random mod {left} < {size}" if size < left else ""
        left -= size
        source = "-".join(map(_bracketed, dict.fromkeys((first, last))))
        yield f"{match}{chance} snat {ip} to {source}:{pool.ports}"


def _picked(service: KernelService) -> str | None:
    """Return where a new connection goes: a server, or a map of them."""
    picks = shares(service)
    if len(picks) < 2:
        return next((str(share.server.endpoint) for share in picks), None)
    by_turns = picks[0].of > 0
    weights = [1 if by_turns else share.server.weight for share in picks]
    how = "inc" if by_turns else "random"
    number = f"numgen {how} mod {sum(weights)}"
    if service.persistence is not None:
        number = f"jhash {_client(service)} mod {sum(weights)} seed {_SEED:#x}"
    parts, at = [], 0
    for share, weight in zip(picks, weights, strict=True):
        numbers = str(at) if weight == 1 else f"{at}-{at + weight - 1}"
        parts.append(f"{numbers} : {share.server.endpoint.address} . {share.server.endpoint.port}")
        at += weight
    return f"{number} map {{ {', '.join(parts)} }}"


def _client(service: KernelService) -> str:
    assert service.persistence is not None
    source = f"{_IP[service.family]} saddr"
    hashed = _hashed(service.persistence.mask)
    return source if hashed == _WHOLE[service.family] else f"@nh,{_SADDR[service.family]},{hashed}"


def _hashed(mask: int) -> int:
    """Return how many bits of an address are hashed: no more than *mask*, so that no prefix is torn apart."""
    return max(8, mask // 8 * 8)


def differences(service: KernelService) -> list[str]:
    """Return what the script does otherwise than the config says, a clause each."""
    found = shared_differences(service)
    if service.persistence is not None:
        prefix = f"the client's /{_hashed(service.persistence.mask)}"
        found.append(f"persistence is a hash of {prefix}, by weights, and ends when the servers change")
    return found


def _bracketed(address: IPAddress) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def _endpoint(service: KernelService) -> Endpoint:
    assert isinstance(service.listen, Endpoint)
    return service.listen
