"""etcdctl's commands for the cluster, for maintenance and for authentication."""

import hashlib
import json
import os
import re

from etcdctl import Ctl
from report import check, part


def run(address):
    ctl = Ctl(address)
    endpoints(ctl)
    members(ctl)
    snapshots(ctl)
    users(ctl)
    roles(ctl)
    refusals(ctl)
    part("etcdctl, cluster, maintenance and authentication")


def endpoints(ctl):
    # The hashes of rule R-MNT-2's first vector: a real etcd computed them.
    check("hashkv of an empty store", ctl.ok("endpoint", "hashkv"), f"{ctl.address}, 1084519789")
    ctl.ok("put", "a", "1")
    check("hashkv", ctl.ok("endpoint", "hashkv"), f"{ctl.address}, 2587454935")
    ctl.ok("put", "b", "2")
    check("hashkv --rev", ctl.ok("endpoint", "hashkv", "--rev", "2"), f"{ctl.address}, 2587454935")
    found = json.loads(ctl.ok("endpoint", "hashkv", "--rev", "2", "-w", "json"))[0]["HashKV"]
    check("hashkv as JSON", (found["hash"], found["compact_revision"]), (2587454935, -1))
    future = "etcdserver: mvcc: required revision is a future revision"
    wanted = f"Failed to get the hash of endpoint {ctl.address} ({future})\nError: {future}"
    check("hashkv of a future revision", ctl.fails("endpoint", "hashkv", "--rev", "99"), wanted)

    wanted = re.compile(rf"{ctl.address}, 1, 3\.\d+\.\d+, \d+ B, true, false, 1, 3, 3, ")
    check("endpoint status", ctl.ok("endpoint", "status"), wanted)
    found = json.loads(ctl.ok("endpoint", "status", "-w", "json"))[0]
    header = {"cluster_id": 1, "member_id": 1, "revision": 3, "raft_term": 1}
    check("endpoint status as JSON", (found["Endpoint"], found["Status"]["header"]), (ctl.address, header))
    wanted = re.compile(rf"{ctl.address} is healthy: successfully committed proposal: took = [\d.]+[mµ]?s")
    check("endpoint health", ctl.ok("endpoint", "health"), wanted)
    found = json.loads(ctl.ok("endpoint", "health", "-w", "json"))[0]
    check("endpoint health as JSON", (found["endpoint"], found["health"]), (ctl.address, True))


def members(ctl):
    check("member list", ctl.ok("member", "list"), "1, started, leasehold, , , false")
    found = json.loads(ctl.ok("member", "list", "-w", "json"))
    header = {"cluster_id": 1, "member_id": 1, "raft_term": 1}
    check("member list as JSON", found, {"header": header, "members": [{"ID": 1, "name": "leasehold"}]})
    few = "Error: etcdserver: re-configuration failed due to not enough started members"
    peer = "--peer-urls=http://127.0.0.1:1"
    check("member add", ctl.fails("member", "add", "x", peer), few)
    check("member remove", ctl.fails("member", "remove", "1"), few)
    missing = "Error: etcdserver: member not found"
    check("member remove of no member", ctl.fails("member", "remove", "7"), missing)
    check("member update of no member", ctl.fails("member", "update", "7", peer), missing)
    check("member promote of no member", ctl.fails("member", "promote", "7"), missing)
    voter = "Error: etcdserver: can only promote a learner member"
    check("member promote of a voter", ctl.fails("member", "promote", "1"), voter)
    wanted = f"Finished defragmenting etcd member[{ctl.address}]"
    check("defrag", ctl.ok("defrag"), wanted)
    check("alarm list", ctl.ok("alarm", "list"), "")
    check("alarm disarm", ctl.ok("alarm", "disarm"), "")


def snapshots(ctl):
    path = os.path.join(os.environ["FOREIGN_WORK"], "snapshot.db")
    check("snapshot save", ctl.ok("snapshot", "save", path), f"Snapshot saved at {path}")
    with open(path, "rb") as file:
        saved = file.read()
    check("digest of the snapshot", saved[-32:], hashlib.sha256(saved[:-32]).digest())
    check("beginning of the snapshot", saved[:12], b"\x89leasehold\r\n")


def users(ctl):
    check("user add", ctl.ok("user", "add", "ann:secret"), "User ann created")
    check("user add without a password", ctl.ok("user", "add", "bob", "--no-password"), "User bob created")
    wanted = "Error: etcdserver: user name already exists"
    check("user add of a user", ctl.fails("user", "add", "ann:secret"), wanted)
    check("user list", ctl.ok("user", "list"), "ann\nbob")
    check("user get", ctl.ok("user", "get", "ann"), "User: ann\nRoles:")
    wanted = "Error: etcdserver: user name not found"
    check("user get of no user", ctl.fails("user", "get", "eve"), wanted)
    check("user delete of no user", ctl.fails("user", "delete", "eve"), wanted)
    found = ctl.run("user", "passwd", "ann", "--interactive=false", stdin="new")
    check("user passwd", found, (0, "Password updated"))
    check("user delete", ctl.ok("user", "delete", "bob"), "User bob deleted")


def roles(ctl):
    check("role add", ctl.ok("role", "add", "r"), "Role r created")
    check("role add of a role", ctl.fails("role", "add", "r"), "Error: etcdserver: role name already exists")
    check("role list", ctl.ok("role", "list"), "r")
    grants = [
        ("readwrite", "foo"),
        ("read", "p", "--prefix"),
        ("write", "k", "zz"),
        ("read", "q", "--from-key"),
    ]
    for grant in grants:
        check(f"role grant-permission {grant}", ctl.ok("role", "grant-permission", "r", *grant), "Role r updated")
    invalid = "Error: etcdserver: invalid auth management"
    check("an empty permission", ctl.fails("role", "grant-permission", "r", "read", "z", "a"), invalid)
    reads = "\tfoo\n\t[p, q) (prefix p)\n\t[q, <open ended>"
    wanted = f"Role r\nKV Read:\n{reads}\nKV Write:\n\tfoo\n\t[k, zz)"
    check("role get", ctl.ok("role", "get", "r"), wanted)
    missing = "Error: etcdserver: role name not found"
    check("role get of no role", ctl.fails("role", "get", "x"), missing)
    wanted = "Permission of range [p, q) is revoked from role r"
    check("role revoke-permission", ctl.ok("role", "revoke-permission", "r", "p", "--prefix"), wanted)
    wanted = "Error: etcdserver: permission is not granted to the role"
    check("a second revoke", ctl.fails("role", "revoke-permission", "r", "p", "--prefix"), wanted)

    found = json.loads(ctl.ok("user", "grant-role", "ann", "r", "-w", "json"))
    header = {"cluster_id": 1, "member_id": 1, "revision": 3, "raft_term": 1}
    check("user grant-role as JSON", found, {"header": header})
    check("a second grant", ctl.ok("user", "grant-role", "ann", "r"), "Role r is granted to user ann")
    check("user grant-role of no role", ctl.fails("user", "grant-role", "ann", "x"), missing)
    check("user get with a role", ctl.ok("user", "get", "ann"), "User: ann\nRoles: r")
    check("user revoke-role", ctl.ok("user", "revoke-role", "ann", "r"), "Role r is revoked from user ann")
    wanted = "Error: etcdserver: role is not granted to the user"
    check("a second revoke of the role", ctl.fails("user", "revoke-role", "ann", "r"), wanted)
    ctl.ok("user", "grant-role", "ann", "r")
    check("role delete", ctl.ok("role", "delete", "r"), "Role r deleted")
    check("user get after the delete", ctl.ok("user", "get", "ann"), "User: ann\nRoles:")


def refusals(ctl):
    root = "Error: etcdserver: root user does not exist"
    check("auth enable without a root user", ctl.fails("auth", "enable"), root)
    ctl.ok("user", "add", "root:secret")
    ctl.ok("role", "add", "root")
    ctl.ok("user", "grant-role", "root", "root")
    wanted = re.compile("Error: .*a store has no authentication to enable")
    check("auth enable", ctl.fails("auth", "enable"), wanted)
    check("auth disable", ctl.ok("auth", "disable"), "Authentication Disabled")
    # A server without authentication answers a client that has a password.
    check("get with a user", ctl.ok("get", "a", "--user", "root:secret"), "a\n1")
