# SPDX-License-Identifier: Apache-2.0
"""256 MiB over one TCP connection each way, compared byte for byte, over a wide and a narrow path."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from balancer import Balancer
from lab import Lab
from tests.netns.traffic import Witness, reasons, url_host, vips

pytestmark = pytest.mark.requires("nfqueue", "ipset", "iptables", "curl")

SIZE = 256 << 20


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bulk") / "big"
    with path.open("wb") as file:
        for _ in range(SIZE >> 20):
            file.write(os.urandom(1 << 20))
    return path


@pytest.mark.parametrize(
    "lab",
    [{"topology": "two-arm", "servers": 1}, {"topology": "two-arm", "servers": 1, "mtu": {"inside": 1280}}],
    ids=["mtu 1500", "mtu 1280"],
    indirect=True,
)
@pytest.mark.timeout(300)
def test_every_byte_arrives(lab: Lab, balancer: Callable[..., Balancer], big: Path) -> None:
    files = lab.directory / "files"
    files.mkdir(exist_ok=True)
    (files / "big").symlink_to(big)
    witnesses = [Witness(lab, role) for role in ("client", "server1")]
    running = balancer()
    for family in lab.families:
        host = url_host(vips(lab, family)[0])
        down = lab.directory / f"down{family}"
        curl = ["curl", "--silent", "--show-error", "--fail", "--globoff", "--max-time", "120"]
        lab.run("client", [*curl, "--output", str(down), f"http://{host}/files/big"], timeout=150)
        assert filecmp.cmp(down, big, shallow=False)
        down.unlink()
        url = f"http://{host}/upload/up{family}"
        lab.run("client", [*curl, "--header", "Expect:", "--upload-file", str(big), url], timeout=150)
        up = next(lab.directory.rglob(f"up{family}"))
        assert filecmp.cmp(up, big, shallow=False)
        up.unlink()
    assert [witness.complaints() for witness in witnesses] == [{}, {}]
    seen = running.show("stats")
    # Clamped MSS: not one packet was too big, so nobody had to say so.
    assert set(reasons(seen)) <= {"flow_opened", "flow_inbound", "flow_outbound"}
    rows = running.show("services")
    assert all(row["bytes_in"] > SIZE for row in rows)
    assert all(row["bytes_out"] > SIZE for row in rows)
