# SPDX-License-Identifier: Apache-2.0
"""What ipvsadm says when IPVS refuses a command, by the command and the kernel's error.

A shim answers in the same words, because programs that drive ipvsadm look at them.
"""

from __future__ import annotations

import errno

from fullnat.ipvsadm import commands as told

FAILED = 255  # exit status of a command that was refused
NOT_LISTED = 1  # and of a listing

_NO_SCHEDULER = "Scheduler or persistence engine not found"
_NO_SERVICE = "No such service"
_NOT_DEFINED = "Service not defined"
_NO_SERVER = "No such destination"

_ANSWERS: dict[tuple[type[told.Command], int], str] = {
    (told.AddService, errno.EEXIST): "Service already exists",
    (told.AddService, errno.ENOENT): _NO_SCHEDULER,
    (told.EditService, errno.ESRCH): _NO_SERVICE,
    (told.EditService, errno.ENOENT): _NO_SCHEDULER,
    (told.DeleteService, errno.ESRCH): _NO_SERVICE,
    (told.Zero, errno.ESRCH): _NO_SERVICE,
    (told.ListServices, errno.ESRCH): _NO_SERVICE,
    (told.AddServer, errno.ESRCH): _NOT_DEFINED,
    (told.AddServer, errno.EEXIST): "Destination already exists",
    (told.EditServer, errno.ESRCH): _NOT_DEFINED,
    (told.EditServer, errno.ENOENT): _NO_SERVER,
    (told.DeleteServer, errno.ESRCH): _NOT_DEFINED,
    (told.DeleteServer, errno.ENOENT): _NO_SERVER,
    (told.StartDaemon, errno.EEXIST): "Daemon has already run",
    (told.StopDaemon, errno.ESRCH): "No daemon is running",
}
_ANY = {
    errno.EPERM: "Permission denied (you must be root)",
    errno.EINVAL: "Invalid operation.  Possibly wrong module version, address not unicast, ...",
    errno.ENOMEM: "Memory allocation problem",
    errno.EOPNOTSUPP: "Operation not supported with IPv6",
    errno.EAFNOSUPPORT: "Operation not supported with specified address family",
    errno.ERANGE: "Numerical result out of range",
    errno.ENODEV: "No such device",
}


def answer(command: told.Command, error: int) -> str:
    """Return the line that says *command* was refused with *error*, one of errno's."""
    words = _ANSWERS.get((type(command), error)) or _ANY.get(error) or errno.errorcode.get(error, str(error))
    return f"{words}\n"


def status(command: told.Command) -> int:
    """Return what ipvsadm exits with when *command* was refused."""
    return NOT_LISTED if isinstance(command, told.ListServices) else FAILED
