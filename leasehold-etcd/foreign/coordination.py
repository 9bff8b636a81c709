"""etcdctl's commands for leases, locks and elections, and its mirror."""

import json
import re
import time

from etcdctl import Ctl
from report import check, part


def run(address, mirror):
    ctl = Ctl(address)
    leases(ctl)
    locks(ctl)
    elections(ctl)
    mirrors(ctl, Ctl(mirror))
    part("etcdctl, leases, locks and elections")


def leases(ctl):
    granted = ctl.ok("lease", "grant", "100")
    check("lease grant", granted, re.compile(r"lease [0-9a-f]{16} granted with TTL\(100s\)"))
    lease = granted.split()[1]
    check("put with a lease", ctl.ok("put", "leased", "v", "--lease", lease), "OK")
    wanted = re.compile(rf"lease {lease} granted with TTL\(100s\), remaining\(9\ds\)")
    check("lease timetolive", ctl.ok("lease", "timetolive", lease), wanted)
    wanted = re.compile(rf"lease {lease} granted with TTL\(100s\), remaining\(9\ds\), attached keys\(\[leased\]\)")
    check("lease timetolive --keys", ctl.ok("lease", "timetolive", lease, "--keys"), wanted)
    wanted = f"lease {lease} keepalived with TTL(100)"
    check("lease keep-alive --once", ctl.ok("lease", "keep-alive", "--once", lease), wanted)
    check("lease list", ctl.ok("lease", "list"), f"found 1 leases\n{lease}")
    check("lease revoke", ctl.ok("lease", "revoke", lease), f"lease {lease} revoked")
    check("get after the revoke", ctl.ok("get", "leased"), "")
    check("lease list after the revoke", ctl.ok("lease", "list"), "found 0 leases")
    wanted = f"lease {lease} already expired"
    check("lease timetolive of no lease", ctl.ok("lease", "timetolive", lease), wanted)
    wanted = "Error: failed to revoke lease (etcdserver: requested lease not found)"
    check("lease revoke of no lease", ctl.fails("lease", "revoke", lease), wanted)
    wanted = f"lease {lease} expired or revoked."
    check("lease keep-alive of no lease", ctl.ok("lease", "keep-alive", lease), wanted)
    wanted = "Error: failed to grant lease (etcdserver: too large lease TTL)"
    check("lease grant of a too large TTL", ctl.fails("lease", "grant", "9999999999"), wanted)
    found = json.loads(ctl.ok("lease", "timetolive", lease, "-w", "json"))
    wanted = {"id": int(lease, 16), "ttl": -1, "granted-ttl": 0, "keys": None}
    check("lease timetolive as JSON", {name: found[name] for name in wanted}, wanted)

    # TTLs below the minimum are raised to it.
    granted = ctl.ok("lease", "grant", "1")
    check("lease grant below the minimum", granted, re.compile(r"lease [0-9a-f]{16} granted with TTL\(2s\)"))
    lease = granted.split()[1]
    ctl.ok("put", "leased", "v", "--lease", lease)
    keeper = ctl.background("lease", "keep-alive", lease)
    wanted = [f"lease {lease} keepalived with TTL(2)"] * 5
    check("lease keep-alive", keeper.wait_lines(5)[:5], wanted)
    check("get of a kept key", ctl.ok("get", "leased"), "leased\nv")
    keeper.interrupt()
    deletion = ctl.background("watch", "leased")
    check("expiry", deletion.wait_lines(3), ["DELETE", "leased", ""])
    deletion.interrupt()
    wanted = f"lease {lease} already expired"
    check("lease timetolive of an expired lease", ctl.ok("lease", "timetolive", lease), wanted)


def locks(ctl):
    key = re.compile(r"m/[0-9a-f]+")
    first = ctl.background("lock", "m")
    owner = first.wait_lines(1)[0]
    check("lock", owner, key)
    second = ctl.background("lock", "m")
    wait_keys(ctl, "m/", 2)
    queue = ctl.ok("get", "m/", "--prefix", "--sort-by", "CREATE", "--keys-only").split()
    check("queue of the lock", (len(queue), queue[:1]), (2, [owner]))
    check("the second contender waits", second.lines, [])
    first.interrupt()
    check("lock of the second contender", second.wait_lines(1)[:1], queue[1:])
    check("the first contender has left", ctl.ok("get", "m/", "--prefix", "--keys-only"), queue[1])
    third = ctl.background("lock", "m", "echo", "held")
    wait_keys(ctl, "m/", 2)
    second.interrupt()
    check("lock with a command", third.wait_lines(1), ["held"])
    check("lock with a command ends", third.process.wait(timeout=10), 0)
    check("lock with a command that fails", ctl.run("lock", "m", "false")[0] != 0, True)
    check("keys after the locks", ctl.ok("get", "m/", "--prefix"), "")


def elections(ctl):
    observer = ctl.background("elect", "-l", "boss")
    first = ctl.background("elect", "boss", "me")
    won = first.wait_lines(2)
    check("elect", " ".join(won), re.compile(r"boss/[0-9a-f]+ me"))
    check("a put while a leader leads", ctl.ok("put", "alive", "1"), "OK")
    check("elect -l", observer.wait_lines(2), won)
    second = ctl.background("elect", "boss", "you")
    wait_keys(ctl, "boss/", 2)
    check("the second candidate waits", second.lines, [])
    first.interrupt()
    check("a put after the leader has left", ctl.ok("put", "alive", "2"), "OK")
    won = second.wait_lines(2)
    check("elect of the second candidate", " ".join(won), re.compile(r"boss/[0-9a-f]+ you"))
    check("elect -l of the second leader", observer.wait_lines(4)[2:], won)
    late = ctl.background("elect", "-l", "boss")
    check("elect -l that starts late", late.wait_lines(2), won)
    for background in [second, observer, late]:
        background.interrupt()
    check("keys after the election", ctl.ok("get", "boss/", "--prefix"), "")


def mirrors(ctl, other):
    for number in range(30):
        ctl.ok("put", f"mirror/{number:02}", str(number))
    mirror = ctl.background("make-mirror", other.address, "--prefix", "mirror/")
    wait_keys(other, "mirror/", 30)
    ctl.ok("put", "mirror/live", "x")
    ctl.ok("del", "mirror/07")
    wait_keys(other, "mirror/live", 1)
    wait_keys(other, "mirror/07", 0)
    wanted = ctl.ok("get", "mirror/", "--prefix")
    check("make-mirror", other.ok("get", "mirror/", "--prefix"), wanted)
    check("make-mirror copies all keys", len(wanted.split()), 60)
    mirror.interrupt()


def wait_keys(ctl, prefix, count):
    """Waits until a prefix has as many keys."""
    for _ in range(200):
        if len(ctl.ok("get", prefix, "--prefix", "--keys-only").split()) == count:
            return
        time.sleep(0.05)
    check(f"number of keys with prefix {prefix}", "another number", count)
