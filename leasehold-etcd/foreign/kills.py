"""Kills waiting clients by SIGKILL at random moments. The server answers after each kill, and their keys go with their leases.

Each round starts two or three clients, kills all of them, and then writes through a new connection and reads through an old
one. etcdctl implements locks and elections with keys, so stubs of gRPC's own library call the services `Lock` and `Election`.
"""

import asyncio
import os
import random
import subprocess
import sys
import time

import aetcd

from etcdctl import Ctl
from report import check, part

ROUNDS = 200
WAITER = os.path.join(os.path.dirname(__file__), "waiter.py")

# Kinds of calls with etcdctl's arguments. NAME is shared in half of the rounds, so that about half of the contenders win.
COMMANDS = {
    "lock": ["lock", "--ttl", "5", "kill/lock/NAME"],
    "elect": ["elect", "kill/boss/NAME", "me"],
    "observe": ["elect", "-l", "kill/boss/shared"],
    "watch": ["watch", "kill/", "--prefix", "--rev", "1"],
    "keep-alive": ["lease", "keep-alive", "LEASE"],
}
CALLS = ["Lock", "Campaign", "Observe", "Watch", "KeepAlive"]

# The longest TTL in seconds of etcdctl's leases: that of elections.
LONGEST = 60


def run(address, server, seed):
    asyncio.run(Kills(address, server, seed).run())
    part("clients killed")


class Kills:
    def __init__(self, address, server, seed):
        self.address = address
        self.ctl = Ctl(address)
        self.server = server
        self.random = random.Random(seed)
        self.killed = {name: 0 for name in [*COMMANDS, *CALLS]}
        self.answered = {name: 0 for name in [*COMMANDS, *CALLS]}
        self.slowest = 0.0

    def client(self):
        host, port = self.address.split(":")
        return aetcd.Client(host=host, port=int(port), timeout=20)

    async def run(self):
        owner, self.lease = [self.ctl.ok("lease", "grant", "3600").split()[1] for _ in range(2)]
        # The served lock and election have an owner with another lease, so that all killed calls to them wait.
        for kind, name in [("Lock", "kill/served-lock"), ("Campaign", "kill/served-boss")]:
            found, _ = self.waiter(kind, name, owner).communicate("go\n", timeout=20)
            check(f"answer to the owner's {kind}", found, "ready\nanswer\n")
        async with self.client() as old:
            await old.put(b"kill/round", b"0")
            sockets = self.sockets()
            started = time.monotonic()
            waiter = self.random_waiter()
            for number in range(1, ROUNDS + 1):
                following = self.random_waiter()
                await self.round(number, waiter, old)
                waiter = following
            self.kill(*waiter)
            spent = time.monotonic() - started
            await self.leftovers(old, owner, sockets)
        self.print(spent)

    def random_waiter(self):
        """Starts a client that begins its call once a line arrives, because Python takes long to start."""
        kind = self.random.choice(CALLS)
        name = {"Lock": "kill/served-lock", "KeepAlive": "", "Watch": "kill/"}.get(kind, "kill/served-boss")
        return kind, self.waiter(kind, name, self.lease)

    def waiter(self, kind, name, lease):
        command = [sys.executable, WAITER, self.address, kind, name, str(int(lease, 16))]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    async def round(self, number, waiter, old):
        clients = []
        for kind in self.random.sample(sorted(COMMANDS), self.random.randint(1, 2)):
            name = "shared" if number % 2 else f"of-round-{number}"
            args = [arg.replace("LEASE", self.lease).replace("NAME", name) for arg in COMMANDS[kind]]
            process = self.ctl.start(
                *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            clients.append((kind, process))
        waiter[1].stdout.readline()
        waiter[1].stdin.write("go\n")
        waiter[1].stdin.flush()
        clients.append(waiter)
        # etcdctl takes some 30 ms to start, so the moments reach from before the connection to long waits.
        moments = sorted((self.random.uniform(0, 0.12), number) for number in range(len(clients)))
        begun = time.monotonic()
        for moment, index in moments:
            await asyncio.sleep(max(0, begun + moment - time.monotonic()))
            self.kill(*clients[index])
        value = str(number).encode()
        asked = time.monotonic()
        try:
            async with self.client() as new:
                await asyncio.wait_for(new.put(b"kill/round", value), 1)
            found = (await asyncio.wait_for(old.get(b"kill/round"), 1)).value
        except (asyncio.TimeoutError, aetcd.ClientError) as error:
            found = f"{error!r} after {[kind for kind, _ in clients]}"
        self.slowest = max(self.slowest, time.monotonic() - asked)
        check(f"round {number}", found, value)

    def kill(self, kind, process):
        process.kill()
        output = process.stdout.read()
        process.wait()
        self.killed[kind] += 1
        self.answered[kind] += bool(output.replace("ready\n", ""))

    async def leftovers(self, client, owner, sockets):
        """Checks that only keys of live leases are left, and that the server has closed the connections."""
        deadline = time.monotonic() + 15
        while self.sockets() > sockets and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        check("sockets of the server", self.sockets(), sockets)
        # A waiting call to `Lock` or `Campaign` that is cut withdraws its key.
        for queue in [b"kill/served-lock", b"kill/served-boss"]:
            found = await client.get_prefix(queue)
            check(f"leases in {queue.decode()}", [kv.lease for kv in found], [int(owner, 16)])
        check("keys of the waiters' lease", list((await client.get_lease_info(int(self.lease, 16))).keys), [])
        for prefix in [b"kill/lock/", b"kill/boss/"]:
            for kv in await client.get_prefix(prefix):
                info = await client.get_lease_info(kv.lease)
                is_live = 0 <= info.TTL <= info.grantedTTL <= LONGEST and kv.key in info.keys
                check(f"lease of {kv.key.decode()}", is_live, True)
        # The last lock's lease has 5 s.
        while await client.get_prefix(b"kill/lock/") and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        check("keys of killed locks after their leases", list(await client.get_prefix(b"kill/lock/")), [])
        check("a lock after all", self.ctl.ok("lock", "kill/lock", "echo", "held"), "held")

    def sockets(self):
        """Returns the number of the server's open sockets."""
        folder = f"/proc/{self.server}/fd"
        targets = [os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)]
        return sum(target.startswith("socket:") for target in targets)

    def print(self, spent):
        print(f"killed in {ROUNDS} rounds, {spent:.0f} s; the slowest put and get took {self.slowest * 1000:.0f} ms")
        for kind, count in self.killed.items():
            client = "etcdctl" if kind in COMMANDS else "gRPC stub"
            print(f"  {client} {kind}: {count}, {self.answered[kind]} of them after an answer")
