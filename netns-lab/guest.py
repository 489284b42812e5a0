# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with Debian's stock kernel, for what this host's kernel lacks: IPVS above all.

    initramfs   busybox, and the few modules it takes to find the root
    root        the host's own, by 9p, read-only; under an overlay whose changes are in memory
    exchange    a directory of the host's, by 9p: what to run goes in, the exit status comes out
    shared      directories that the command may write to for good, by 9p
    ttyS0       the kernel's messages, into a file
    ttyS1       what the command writes

The kernel is Debian's package, downloaded once and unpacked into a cache; nothing is installed.  QEMU
emulates the CPU: all is slower than here by an order of magnitude, and alike on hosts with KVM and
without.  The guest has no network but its own, and /run and /dev of its own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from namespace import LabError

QEMU = "qemu-system-x86_64"
PACKAGE = "linux-image-amd64"  # leads to the kernel of this release
# The initramfs loads these; all others the kernel loads when it needs them, as on any host.
MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay")
_BUSYBOX = Path("/bin/busybox")
PATIENCE = "12"  # how much longer than elsewhere a test or a bench waits there before it gives up
# Program -> the Debian package that has it.
_TOOLS = {
    QEMU: "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "depmod": "kmod",
    "setpriv": "util-linux",
}
_KERNEL_LINE = (
    "console=ttyS0 loglevel=4",
    "panic=-1",  # with QEMU's -no-reboot: a panic ends the guest
    "mitigations=off",
    "tsc=reliable",  # a clock that costs no exit from the emulated code; the kernel would take the HPET
)

_INIT = """\
#!/bin/busybox sh
# The first process: finds the root, and hands over to what the exchange says.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in $(cat /modules/order); do insmod "/modules/$module"; done
mount -t 9p -o {transport},ro,cache=loose root /lower
mount -t tmpfs tmpfs /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /new
for each in dev proc sys; do mount -o move "/$each" "/new/$each"; done
mount -t tmpfs tmpfs /new/run
mkdir /new/run/exchange
mount -t 9p -o {transport} exchange /new/run/exchange
exec switch_root /new /bin/sh /run/exchange/start
"""

_START = """\
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t bpf bpf /sys/fs/bpf
ln -s /proc/self/fd /dev/fd
echo guest >/proc/sys/kernel/hostname
ip link set lo up
mkdir -p /lib/modules
rm -rf "/lib/modules/$(uname -r)"
ln -s {modules} "/lib/modules/$(uname -r)"
{mounts}
stty -F /dev/ttyS1 raw -echo
ulimit -Hn 524288
( {environment}
  cd {directory} && exec {command} ) </dev/null >/dev/ttyS1 2>&1
echo $? >/run/exchange/status
echo o >/proc/sysrq-trigger
sleep 60
"""
_TRANSPORT = "trans=virtio,version=9p2000.L,msize=512000"


def run(argv: Sequence[str], *, shared: Sequence[Path] = (), timeout: float | None = None) -> int:
    """Boot, run *argv* in the current directory, write what it writes, and return its exit status.

    What it changes is gone afterwards, except in the directories *shared*.  LabError in one line where a
    tool or the kernel cannot be had, or the guest dies.
    """
    require_tools()
    if absent := [str(path) for path in shared if not path.is_dir()]:
        raise LabError(f"no directory to share: {absent[0]}")
    kernel = Kernel.fetched()
    with _ending_in_order(), tempfile.TemporaryDirectory(prefix="fullnat-guest-") as name:
        exchange = Path(name)
        kernel.build_initramfs(exchange / "initramfs")
        (exchange / "start").write_text(_start(argv, kernel, shared))
        command = _command(kernel, exchange, shared)
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise LabError(f"the guest did not end within {timeout:g} s") from None
        status = exchange / "status"
        if done.returncode or not status.exists():
            raise LabError(f"the guest died: {_last_words(exchange / 'console')}")
        return int(status.read_text())


class Kernel:
    """The guest's kernel as Debian's package has it: an image and its modules, in the cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self.modules,) = (folder / "lib/modules").iterdir()
        self.version = self.modules.name
        self.image = folder / f"boot/vmlinuz-{self.version}"

    @classmethod
    def cached(cls) -> Kernel | None:
        """Return the one in the cache, if there is one."""
        folder = cache() / "kernel"
        return cls(folder) if folder.exists() else None

    @classmethod
    def fetched(cls) -> Kernel:
        """Return the one in the cache; download and unpack it where there is none."""
        if kernel := cls.cached():
            return kernel
        print("guest: fetching a kernel, once", file=sys.stderr)
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as name:
            _unpack(Path(name))
            # Whole, or not there; if somebody else was faster, theirs is as good.
            with contextlib.suppress(OSError):
                (Path(name) / "kernel").rename(cache() / "kernel")
        return cls(cache() / "kernel")

    def build_initramfs(self, path: Path) -> None:
        """Write an initramfs for this kernel to *path*."""
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            for each in ("bin", "modules", "proc", "sys", "dev", "lower", "upper", "new"):
                (root / each).mkdir()
            shutil.copy(_BUSYBOX, root / "bin/busybox")
            order = self._order_of(MODULES)
            for module in order:
                shutil.copy(module, root / "modules")
            (root / "modules/order").write_text("\n".join(module.name for module in order) + "\n")
            (root / "init").write_text(_INIT.format(transport=_TRANSPORT))
            (root / "init").chmod(0o755)
            names = "\n".join(str(each.relative_to(root)) for each in sorted(root.rglob("*")))
            with path.open("wb") as archive:
                line = ["cpio", "--create", "--format=newc", "--quiet"]
                subprocess.run(line, cwd=root, input=names.encode(), stdout=archive, check=True)

    def _order_of(self, modules: Sequence[str]) -> list[Path]:
        """Return the files of *modules*, each after those it needs."""
        found: dict[Path, None] = {}
        for module in modules:
            said = _run("modprobe", "-d", str(self._folder), "-S", self.version, "--show-depends", module)
            lines = (line.split() for line in said.splitlines())
            found.update((Path(words[1]), None) for words in lines if words[0] == "insmod")
        return list(found)


def cache() -> Path:
    """Return where the kernel is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fullnat-guest"


def require_tools() -> None:
    """Raise LabError, in one line, for what is not installed."""
    missing = {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if missing:
        raise LabError(f"the guest needs: apt-get install {' '.join(sorted(missing))}")


def find_refusal() -> str:
    """Return why there can be no guest without fetching anything; empty when there can."""
    try:
        require_tools()
    except LabError as error:
        return str(error)
    return "" if Kernel.cached() else "no kernel is fetched yet: make guest"


def _unpack(place: Path) -> None:
    """Download Debian's kernel into *place*, and unpack it there into `kernel`."""
    try:
        _run("apt-get", "download", _kernel_package(), cwd=place)
    except LabError as error:
        raise LabError(f"no kernel for the guest: {error} (after an apt-get update?)") from None
    (archive,) = place.glob("*.deb")
    _run("dpkg-deb", "--extract", str(archive), str(place / "kernel"))
    (modules,) = (place / "kernel/lib/modules").iterdir()
    _run("depmod", "-b", str(place / "kernel"), modules.name)


def _kernel_package() -> str:
    """Return the package that the release's kernel is in now."""
    said = _run("apt-cache", "depends", "--no-recommends", "--no-suggests", PACKAGE)
    found = [line.split()[-1] for line in said.splitlines() if "Depends: linux-image-" in line]
    if not found:
        raise LabError(f"apt knows no {PACKAGE}")
    return found[0]


def _start(argv: Sequence[str], kernel: Kernel, shared: Sequence[Path]) -> str:
    variables = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), "LANG": "C.UTF-8"}
    # The command's output is a serial line there, whatever it is here.
    variables["FULLNAT_PATIENCE"] = os.environ.get("FULLNAT_PATIENCE", PATIENCE)
    variables["TERM"] = os.environ.get("TERM", "dumb") if sys.stdout.isatty() else "dumb"
    mounts = [
        f"mkdir -p {place} && mount -t 9p -o {_TRANSPORT} shared{number} {place}"
        for number, place in enumerate(shlex.quote(str(path.resolve())) for path in shared)
    ]
    return _START.format(
        modules=shlex.quote(str(kernel.modules)),
        mounts="\n".join(mounts),
        environment="; ".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        directory=shlex.quote(os.getcwd()),
        command=shlex.join(argv),
    )


def _command(kernel: Kernel, exchange: Path, shared: Sequence[Path]) -> list[str]:
    tagged = {"exchange": exchange} | {
        f"shared{number}": path.resolve() for number, path in enumerate(shared)
    }
    model = "security_model=none,multidevs=remap"
    virtfs = [f"local,path=/,mount_tag=root,readonly=on,{model}"]
    virtfs += [f"local,path={_escaped(path)},mount_tag={tag},{model}" for tag, path in tagged.items()]
    return [
        *("setpriv", "--pdeathsig", "TERM"),  # it does not outlive this process
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3G"),
        *("-kernel", str(kernel.image), "-initrd", str(exchange / "initramfs")),
        *("-append", " ".join(_KERNEL_LINE)),
        *("-serial", f"file:{exchange / 'console'}", "-serial", "stdio"),
        *(word for each in virtfs for word in ("-virtfs", each)),
    ]


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")  # in an option of QEMU's


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let the signals that end a process end it as an exception does: with everything cleaned up."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_words(console: Path) -> str:
    """Return why the kernel panicked if it did, else the last it said."""
    lines = console.read_text(errors="replace").splitlines() if console.exists() else []
    said = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
    return next((line for line in said if "Kernel panic" in line), said[-1])


def _run(*argv: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, check=False)
    except FileNotFoundError:
        raise LabError(f"there is no {argv[0]}") from None
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise LabError(f"{argv[0]}: {complaint[-1]}")
    return done.stdout
