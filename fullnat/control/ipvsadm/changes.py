# SPDX-License-Identifier: Apache-2.0
"""Commands of ipvsadm as changes of a configuration; pure.

A service on an address is full NAT by the engine; -m and DPVS's -b both mean that.  A mark is served by
the kernel's IPVS, as in the configuration.  What is refused is refused as IPVS does: by an errno, or in
words where IPVS has no such case.  What the configuration refuses is refused here too: nobody gets a
service by command that no file could have.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

from fullnat.control.config.model import (
    AnyServiceConfig,
    Config,
    KernelServiceConfig,
    PoolConfig,
    ServerConfig,
    ServiceConfig,
)
from fullnat.control.config.pools import MAIN
from fullnat.control.config.value_type import RefusalError
from fullnat.control.config.values import usable
from fullnat.control.schedulers import load_scheduler
from fullnat.core.addr import PROTOCOL_NAMES, TCP, Endpoint
from fullnat.core.sched.base import Scheduler
from fullnat.core.service import Persistence
from fullnat.core.timeouts import SECOND, Timeouts
from fullnat.ipvsadm import commands as told
from fullnat.kernel.ipvs import SCHEDULERS
from fullnat.kernel.service import Forward, KernelServer

# What a service keeps when it is edited, because ipvsadm has no words for it.
_UNKNOWN_TO_IPVSADM = ("name", "pools", "sorry", "inhibit", "slow_start", "on_down", "reset_after")


class UnlikeIpvsError(Exception):
    """Something IPVS has and fullnat has not; one line says what to do."""


def _refuse(number: int) -> OSError:
    return OSError(number, errno.errorcode[number])


def key_of(address: told.ServiceAddress) -> str:
    """Return what the service at *address* is called here; UnlikeIpvsError for one there can be none of."""
    if not address.protocol:
        return str(address.listen)
    if address.protocol not in PROTOCOL_NAMES:
        raise UnlikeIpvsError("SCTP is not balanced: TCP and UDP are")
    if isinstance(address.listen, Endpoint) and not address.listen.port:
        raise UnlikeIpvsError("a service has one port: 0, for all ports, is not to be had")
    return f"{PROTOCOL_NAMES[address.protocol]}://{address.listen}"


def find(config: Config, address: told.ServiceAddress) -> AnyServiceConfig:
    """Return the service at *address*; OSError ESRCH when there is none."""
    key = key_of(address)
    found = next((service for service in config.all_services if service.address == key), None)
    if found is None:
        raise _refuse(errno.ESRCH)
    return found


def change(config: Config, command: told.Command) -> Config:
    """Return what *command* makes of *config*; OSError as IPVS would give it, or UnlikeIpvsError."""
    match command:
        case told.AddService():
            return _add_service(config, command)
        case told.EditService():
            return _edit_service(config, command)
        case told.DeleteService():
            return _with_service(config, find(config, command.service).address, None)
        case told.Clear():
            return replace(config, services=(), kernel_services=())
        case told.AddServer():
            return _add_server(config, command)
        case told.EditServer():
            return _edit_server(config, command)
        case told.DeleteServer():
            return _delete_server(config, command)
        case told.SetTimeouts():
            return _set_timeouts(config, command)
        case told.AddLocal() | told.DeleteLocal():
            return _local(config, command)
        case told.StartDaemon() | told.StopDaemon():
            raise UnlikeIpvsError("connections are not synchronized: there is no such daemon")
        case _:
            raise UnlikeIpvsError("this command changes nothing")


# Services.


def _add_service(config: Config, command: told.AddService) -> Config:
    key = key_of(command.service)
    if any(service.address == key for service in config.all_services):
        raise _refuse(errno.EEXIST)
    _check_listen(config, command.service)
    return _with_service(config, key, _make_service(config, key, command))


def _edit_service(config: Config, command: told.EditService) -> Config:
    old = find(config, command.service)
    new = _make_service(config, old.address, command)
    kept: dict[str, Any] = {name: getattr(old, name) for name in _UNKNOWN_TO_IPVSADM}
    kept |= {"timeouts": old.timeouts} if isinstance(old, ServiceConfig) else {"forward": old.forward}
    return _with_service(config, old.address, replace(new, **kept))


def _make_service(config: Config, key: str, command: told.AddService | told.EditService) -> AnyServiceConfig:
    address, settings = command.service, command.settings
    if settings.engine:
        raise UnlikeIpvsError("persistence is by client address: there are no persistence engines")
    if settings.one_packet and (address.protocol == TCP or settings.persistence):
        raise UnlikeIpvsError("one-packet scheduling is for UDP, and without persistence")
    scheduler = _find_scheduler(config, settings.scheduler)
    if not settings.flags <= scheduler.accepted_flags:
        raise _refuse(errno.EINVAL)
    persistence = settings.persistence
    common: dict[str, Any] = {
        "name": key.replace("://", "-").replace("[", "").replace("]", ""),
        "protocol": address.protocol,
        "listen": address.listen,
        "scheduler_name": settings.scheduler,
        "scheduler_flags": settings.flags,
        "persistence": Persistence(persistence.timeout * SECOND, persistence.mask) if persistence else None,
        "one_packet": settings.one_packet,
        "pools": (PoolConfig(MAIN, ()),),
    }
    if address.protocol:
        return ServiceConfig(**common, scheduler=scheduler, timeouts=config.timeouts)
    if settings.scheduler not in SCHEDULERS:
        raise _refuse(errno.ENOENT)
    return KernelServiceConfig(**common, forward=Forward.FULLNAT)


def _find_scheduler(config: Config, name: str) -> type[Scheduler]:
    """Return the scheduler of this name; one in a file only where the configuration names it already.

    Who may change services may not therefore have any program run.
    """
    is_known = any(service.scheduler_name == name for service in config.services)
    try:
        if ":" in name and not is_known:
            raise _refuse(errno.ENOENT)
        return load_scheduler(name, config.path.parent)
    except ValueError:
        raise _refuse(errno.ENOENT) from None


def _check_listen(config: Config, address: told.ServiceAddress) -> None:
    """Refuse what no packet could be sent for, or would come back to us for ever."""
    family = address.listen.family
    if not any(lip.version == family for lip in config.snat.addresses):
        raise UnlikeIpvsError(f"there is no IPv{family} address in [snat] for connections to come from")
    if isinstance(address.listen, Endpoint):
        _check_unicast(address.listen)
        same = (service for service in config.services if service.protocol == address.protocol)
        if any(address.listen in service.endpoints for service in same):
            raise UnlikeIpvsError(f"{address.listen} is a server of another service")


def _check_unicast(endpoint: Endpoint) -> None:
    try:
        usable(endpoint.address)
    except RefusalError:
        raise _refuse(errno.EINVAL) from None


def _with_service(config: Config, key: str, service: AnyServiceConfig | None) -> Config:
    """Return *config* with *service* in the place of the one called *key*, at the end, or without it."""
    services = {one.address: one for one in config.all_services}
    if service is None:
        del services[key]
    else:
        services[key] = service
    return replace(
        config,
        services=tuple(one for one in services.values() if isinstance(one, ServiceConfig)),
        kernel_services=tuple(one for one in services.values() if isinstance(one, KernelServiceConfig)),
    )


# Servers: those of the main pool.


def _add_server(config: Config, command: told.AddServer) -> Config:
    service = _find_for_server(config, command)
    endpoint = _endpoint(service, command.settings)
    if endpoint in service.endpoints:
        raise _refuse(errno.EEXIST)
    _check_unicast(endpoint)
    if any((one.protocol, one.listen) == (service.protocol, endpoint) for one in config.all_services):
        raise UnlikeIpvsError(f"{endpoint} is a service, and cannot be a server as well")
    server = _with_settings(ServerConfig(endpoint, 1, 0, None), command.settings.server)
    return _with_servers(config, service, (*service.servers, server))


def _edit_server(config: Config, command: told.EditServer) -> Config:
    service = _find_for_server(config, command)
    endpoint = _endpoint(service, command.settings)
    servers = {server.endpoint: server for server in service.servers}
    if endpoint not in servers:
        raise _refuse(errno.ENOENT)
    servers[endpoint] = _with_settings(servers[endpoint], command.settings.server)
    return _with_servers(config, service, tuple(servers.values()))


def _delete_server(config: Config, command: told.DeleteServer) -> Config:
    service = find(config, command.service)
    endpoint = _with_port(service, command.server)
    left = tuple(server for server in service.servers if server.endpoint != endpoint)
    if len(left) == len(service.servers):
        raise _refuse(errno.ENOENT)
    return _with_servers(config, service, left)


def _find_for_server(config: Config, command: told.AddServer | told.EditServer) -> AnyServiceConfig:
    service = find(config, command.service)
    if command.settings.forward in (Forward.DR, Forward.TUN):
        raise UnlikeIpvsError(
            'servers are reached by full NAT: say -m or -b; forward = "dr" and "tun" are the configuration\'s'
        )
    if command.settings.server.endpoint.family != service.listen.family:
        raise _refuse(errno.EINVAL)
    return service


def _endpoint(service: AnyServiceConfig, settings: told.ServerSettings) -> Endpoint:
    return _with_port(service, settings.server.endpoint)


def _with_port(service: AnyServiceConfig, endpoint: Endpoint) -> Endpoint:
    """Return *endpoint*, with the port of the service where it has none."""
    if endpoint.port or not isinstance(service.listen, Endpoint):
        return endpoint
    return Endpoint(endpoint.address, service.listen.port)


def _with_settings(server: ServerConfig, wanted: KernelServer) -> ServerConfig:
    return replace(server, weight=wanted.weight, upper=wanted.upper, lower=wanted.lower or None)


def _with_servers(config: Config, service: AnyServiceConfig, servers: tuple[ServerConfig, ...]) -> Config:
    main, *backups = service.pools
    changed = replace(service, pools=(replace(main, servers=servers), *backups))
    return _with_service(config, service.address, changed)


# Everything else.


def _set_timeouts(config: Config, command: told.SetTimeouts) -> Config:
    """Return *config* with other timeouts, of all services; 0 leaves one as it is."""

    def changed(timeouts: Timeouts) -> Timeouts:
        return replace(
            timeouts,
            tcp_established=command.tcp * SECOND or timeouts.tcp_established,
            tcp_closing=command.tcp_fin * SECOND or timeouts.tcp_closing,
            udp=command.udp * SECOND or timeouts.udp,
        )

    services = (replace(service, timeouts=changed(service.timeouts)) for service in config.services)
    return replace(config, timeouts=changed(config.timeouts), services=tuple(services))


def _local(config: Config, command: told.AddLocal | told.DeleteLocal) -> Config:
    """Accept what is so already: all services have all LIPs, and the configuration says which."""
    find(config, command.service)
    if isinstance(command, told.AddLocal) and command.address in config.snat.addresses:
        return config
    raise UnlikeIpvsError("all services share the local addresses of [snat]; change them there, and restart")
