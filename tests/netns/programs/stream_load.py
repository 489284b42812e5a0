# SPDX-License-Identifier: Apache-2.0
"""Conversations that never end: stream_load.py RATE {tcp|udp}:COUNT:PORT:ADDRESS...

Each sends data that is its own and nobody else's, and compares what comes back; RATE is rounds per
second of all together.  Prints `up` when all are open, and for each line on standard input a report
in JSON.  A TCP conversation is lost when it ends or does not answer for PATIENCE seconds; a datagram
that is not answered in a second is sent again, and counted.
"""

import asyncio
import json
import os
import random
import socket
import struct
import sys

import uvloop

PATIENCE = 20.0
DATAGRAM_PATIENCE = 1.0
LARGEST = 12_000, 1200  # bytes of a round, TCP and UDP

POOL = os.urandom(1 << 16)
chance = random.Random(7)


class Talk:
    """One conversation."""

    def __init__(self, number: int, kind: str, address: str, port: int) -> None:
        self.number, self.kind, self.address, self.port = number, kind, address, port
        self.rounds = 0
        self.resent = 0
        self.trouble = ""  # why it is over
        self.local_port = 0

    def data(self) -> bytes:
        """Return what to say in this round."""
        size = chance.randrange(LARGEST[self.kind == "udp"])
        start = chance.randrange(len(POOL) - size)
        return struct.pack("!IQ", self.number, self.rounds) + POOL[start : start + size]

    async def open(self) -> None:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        kind = socket.SOCK_DGRAM if self.kind == "udp" else socket.SOCK_STREAM
        self.socket = socket.socket(family, kind)
        self.socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self.socket, (self.address, self.port))
        self.local_port = self.socket.getsockname()[1]

    async def go_on(self, pause: float) -> None:
        """Talk until something is wrong."""
        try:
            await asyncio.sleep(chance.random() * pause)
            while True:
                data = self.data()
                answer = await (self.ask_datagram(data) if self.kind == "udp" else self.ask(data))
                if answer != data:
                    self.trouble = "corrupted" if answer else "closed"
                    return
                self.rounds += 1
                await asyncio.sleep(pause)
        except TimeoutError:
            self.trouble = "stalled"
        except OSError as error:
            self.trouble = f"lost: {error.strerror}"

    async def ask(self, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            await loop.sock_sendall(self.socket, data)
            answer = b""
            while len(answer) < len(data):
                more = await loop.sock_recv(self.socket, 1 << 16)
                if not more:
                    return answer
                answer += more
            return answer

    async def ask_datagram(self, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while True:
                await loop.sock_sendall(self.socket, data)
                try:
                    async with asyncio.timeout(DATAGRAM_PATIENCE):
                        answer = await loop.sock_recv(self.socket, 1 << 16)
                        while len(answer) > 12 and answer[:12] < data[:12]:  # of a round before
                            answer = await loop.sock_recv(self.socket, 1 << 16)
                        return answer
                except TimeoutError:
                    self.resent += 1


async def main(rate: float, wanted: list[str]) -> None:
    talks: list[Talk] = []
    for text in wanted:
        kind, count, port, address = text.split(":", 3)
        talks += [Talk(len(talks) + at, kind, address, int(port)) for at in range(int(count))]
    for talk in talks:
        await talk.open()
    tasks = [asyncio.create_task(talk.go_on(len(talks) / rate)) for talk in talks]
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("up", flush=True)
    while await lines.readline():
        report = {
            "rounds": [talk.rounds for talk in talks],
            "resent": sum(talk.resent for talk in talks),
            "local_ports": [talk.local_port for talk in talks],
            "troubles": [
                f"{talk.kind} {talk.address} from {talk.local_port}, round {talk.rounds}: {talk.trouble}"
                for talk in talks
                if talk.trouble
            ],
        }
        print(json.dumps(report), flush=True)
    for task in tasks:
        task.cancel()


uvloop.run(main(float(sys.argv[1]), sys.argv[2:]))
