"""Python's aetcd, which uses gRPC's library in C: calls, watches, leases, locks and alarms."""

import asyncio
import hashlib
import io

import aetcd

from report import check, part


def run(address):
    asyncio.run(talk(address))
    part("aetcd")


async def talk(address):
    host, port = address.split(":")
    async with aetcd.Client(host=host, port=int(port), timeout=10) as client:
        await keys(client)
        await txns(client)
        await watches(client)
        await leases(client)
        await locks(client)
        await maintenance(client)


def pairs(found):
    return [(pair.key, pair.value) for pair in found]


async def error(call):
    """Returns the type and text of a call's error."""
    try:
        await call
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


async def keys(client):
    # Revisions 2 to 4.
    for number, key in enumerate([b"k/1", b"k/2", b"k/3"]):
        await client.put(key, str(number).encode())
    found = await client.get(b"k/1")
    wanted = [b"k/1", b"0", 2, 2, 1, 0, 4]
    found = [getattr(found, name) for name in found.__slots__[1:]] + [found.header.revision]
    check("aetcd get", found, wanted)
    check("aetcd get of no key", await client.get(b"missing"), None)
    wanted = [(b"k/3", b"2"), (b"k/2", b"1"), (b"k/1", b"0")]
    found = await client.get_prefix(b"k/", sort_order="descend", sort_target="create")
    check("aetcd get_prefix", (pairs(found), found.count, found.more), (wanted, 3, False))
    found = await client.get_range(b"k/1", b"k/3")
    check("aetcd get_range", pairs(found), wanted[:0:-1])
    found = await client.put(b"k/1", b"new", prev_kv=True)
    check("aetcd put with the previous pair", (found.prev_kv.value, found.header.revision), (b"0", 5))
    check("aetcd replace", await client.replace(b"k/1", b"new", b"newer"), True)
    check("aetcd replace of another value", await client.replace(b"k/1", b"new", b"newest"), False)
    found = await client.delete(b"k/1", prev_kv=True)
    check("aetcd delete", found.prev_kv.value, b"newer")
    check("aetcd delete_prefix", (await client.delete_prefix(b"k/")).deleted, 2)
    value = bytes(range(256)) * 4000
    await client.put(b"large", value)
    check("aetcd put and get of 1 MB", (await client.get(b"large")).value, value)


async def txns(client):
    t = client.transactions
    await client.put(b"t", b"1")
    compare = [t.value(b"t") == b"1", t.version(b"t") > 0, t.create(b"no") == 0, t.mod(b"t") < 1000]
    success = [t.put(b"t", b"2"), t.get(b"t"), t.delete(b"no")]
    is_done, answers = await client.transaction(compare, success, [])
    found = (is_done, len(answers), [pair[1].key for pair in answers[1]])
    check("aetcd transaction", found, (True, 3, [b"t"]))
    check("aetcd transaction read its own write", (await client.get(b"t")).value, b"2")
    is_done, answers = await client.transaction(compare, [], [t.get(b"t")])
    check("aetcd transaction that fails", (is_done, answers[0][0][0]), (False, b"2"))
    found = await error(client.transaction([], [t.put(b"t", b"1"), t.put(b"t", b"2")], []))
    wanted = "InvalidArgumentError: etcdserver: duplicate key given in txn request"
    check("aetcd transaction with a duplicate key", found, wanted)


async def watches(client):
    first = (await client.put(b"w/0", b"old")).header.revision
    watch = await client.watch_prefix(b"w/", start_revision=first, prev_kv=True)
    quiet = await client.watch_prefix(b"w/", kind=aetcd.EventKind.DELETE)

    async def collect(watch, count):
        events = []
        async for event in watch:
            events.append((event.kind, event.kv.key, event.kv.value, event.kv.mod_revision - first))
            if len(events) == count:
                return events

    tasks = [asyncio.create_task(collect(watch, 52)), asyncio.create_task(collect(quiet, 1))]
    for number in range(50):
        await client.put(b"w/1", str(number).encode())
    await client.delete(b"w/1")
    wanted = [("PUT", b"w/0", b"old", 0)]
    wanted += [("PUT", b"w/1", str(number).encode(), number + 1) for number in range(50)]
    wanted += [("DELETE", b"w/1", b"", 51)]
    found = [await asyncio.wait_for(task, 10) for task in tasks]
    check("aetcd watch_prefix with history", found[0], wanted)
    check("aetcd watch_prefix of deletions", found[1], wanted[-1:])
    await watch.cancel()
    await quiet.cancel()
    once = asyncio.create_task(client.watch_once(b"once", timeout=10))
    while not once.done():
        await client.put(b"once", b"x")
        await asyncio.sleep(0.01)
    check("aetcd watch_once", (await once).kv.key, b"once")
    await client.compact(first)
    # aetcd returns this error in the place of an event.
    found = await client.watch_once(b"w/0", start_revision=first - 1, timeout=10)
    wanted = f"RevisionCompactedError('revision was already compacted below {first}')"
    check("aetcd watch of a compacted revision", repr(found), wanted)


async def leases(client):
    lease = await client.lease(100)
    check("aetcd lease", (lease.ttl, lease.id > 0), (100, True))
    await client.put(b"leased", b"v", lease=lease)
    found = await client.get_lease_info(lease.id)
    found = (found.grantedTTL, found.TTL in (99, 100), list(found.keys))
    check("aetcd get_lease_info", found, (100, True, [b"leased"]))
    check("aetcd refresh", (await lease.refresh()).TTL, 100)
    await lease.revoke()
    check("aetcd get after the revoke", await client.get(b"leased"), None)
    check("aetcd remaining_ttl of no lease", await lease.remaining_ttl(), -1)
    check("aetcd lease with an id", (await client.lease(50, lease_id=12345)).id, 12345)
    found = await error(client.lease(50, lease_id=12345))
    check("aetcd lease with a used id", found, "DuplicateLeaseError: ")
    await client.revoke_lease(12345)


async def locks(client):
    order = []

    async def contend(name):
        async with client.lock(b"lock", ttl=30):
            order.append(name)
            await asyncio.sleep(0.05)
            order.append(name)

    await asyncio.wait_for(asyncio.gather(*(contend(name) for name in range(4))), 30)
    check("aetcd lock excludes", order[::2] == order[1::2] and sorted(order[::2]), [0, 1, 2, 3])
    check("aetcd lock is released", await client.get(b"lock"), None)


async def maintenance(client):
    status = await client.status()
    check("aetcd status", (status.version[:2], status.leader.id, status.raft_term), ("3.", 1, 1))
    found = [(member.id, member.name) async for member in client.members()]
    check("aetcd members", found, [(1, "leasehold")])
    check("aetcd defragment", await client.defragment(), None)
    check("aetcd hash", await client.hash() > 0, True)
    file = io.BytesIO()
    await client.snapshot(file)
    saved = file.getvalue()
    check("aetcd snapshot", saved[-32:], hashlib.sha256(saved[:-32]).digest())

    await client.create_alarm()
    found = [(alarm.alarm_type, alarm.member_id) async for alarm in client.list_alarms()]
    check("aetcd alarm", found, [(1, 0)])
    wanted = "ClientError: etcdserver: mvcc: database space exceeded"
    check("aetcd put with an alarm", await error(client.put(b"x", b"y")), wanted)
    found = [alarm.member_id for alarm in await client.disarm_alarm()]
    check("aetcd disarm_alarm", found, [0])
    await client.put(b"x", b"y")
    check("aetcd put after disarm_alarm", (await client.get(b"x")).value, b"y")
