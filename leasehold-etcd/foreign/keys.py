"""etcdctl's commands for keys: put, get, del, txn, watch and compaction."""

import json
import re

from etcdctl import Ctl
from report import check, part


def header(revision):
    return {"cluster_id": 1, "member_id": 1, "revision": revision, "raft_term": 1}


def run(address):
    ctl = Ctl(address)
    puts_and_gets(ctl)
    sorts(ctl)
    errors(ctl)
    txns(ctl)
    watches(ctl)
    compactions(ctl)
    part("etcdctl, keys")


def puts_and_gets(ctl):
    # Revisions 2 to 5.
    for key, value in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "0")]:
        check(f"put {key}", ctl.ok("put", key, value), "OK")
    check("get", ctl.ok("get", "a"), "a\n0")
    check("get --rev", ctl.ok("get", "a", "--rev", "2"), "a\n1")
    check("get --rev before the key", ctl.ok("get", "b", "--rev", "2"), "")
    check("get of no key", ctl.ok("get", "missing"), "")
    check("get --prefix", ctl.ok("get", "", "--prefix"), "a\n0\nb\n2\nc\n3")
    check("get of a range", ctl.ok("get", "a", "c"), "a\n0\nb\n2")
    check("get --from-key", ctl.ok("get", "b", "--from-key"), "b\n2\nc\n3")
    check("get --keys-only", ctl.ok("get", "b", "--from-key", "--keys-only"), "b\n\nc")
    check("get --print-value-only", ctl.ok("get", "a", "--print-value-only"), "0")
    check("get serializable", ctl.ok("get", "a", "--consistency=s"), "a\n0")
    check("get --hex", ctl.ok("get", "a", "--hex"), "\\x61\n\\x30")
    a = {"key": "YQ==", "create_revision": 2, "mod_revision": 5, "version": 2, "value": "MA=="}
    found = json.loads(ctl.ok("get", "a", "-w", "json"))
    check("get as JSON", found, {"header": header(5), "kvs": [a], "count": 1})
    found = json.loads(ctl.ok("get", "", "--prefix", "--limit", "1", "-w", "json"))
    check("get --limit as JSON", found, {"header": header(5), "kvs": [a], "more": True, "count": 3})
    check("put --prev-kv", ctl.ok("put", "a", "9", "--prev-kv"), "OK\na\n0")
    check("put from standard input", ctl.ok("put", "a", stdin="0"), "OK")
    check("del --prev-kv", ctl.ok("del", "c", "--prev-kv"), "1\nc\n3")
    check("del of no key", ctl.ok("del", "c"), "0")
    check("del as JSON", json.loads(ctl.ok("del", "c", "-w", "json")), {"header": header(8)})
    check("put after del", ctl.ok("put", "c", "3"), "OK")


def sorts(ctl):
    # Keys in order of creation: a, b, c; of change: b, a, c; of value: a, b, c. Key a has version 4.
    orders = [
        ("KEY", "DESCEND", "c\n\nb\n\na"),
        ("CREATE", "DESCEND", "c\n\nb\n\na"),
        ("MODIFY", "ASCEND", "b\n\na\n\nc"),
        ("MODIFY", "DESCEND", "c\n\na\n\nb"),
        ("VALUE", "DESCEND", "c\n\nb\n\na"),
        ("VERSION", "DESCEND", "a\n\nb\n\nc"),
    ]
    for target, order, wanted in orders:
        found = ctl.ok("get", "", "--prefix", "--keys-only", "--sort-by", target, "--order", order)
        check(f"get by {target}, {order}", found, wanted)


def errors(ctl):
    future = "Error: etcdserver: mvcc: required revision is a future revision"
    check("get of a future revision", ctl.fails("get", "a", "--rev", "99"), future)
    check("put of no key", ctl.fails("put", "", "x"), "Error: etcdserver: key is not provided")
    missing = "Error: etcdserver: key not found"
    check("put --ignore-value of no key", ctl.fails("put", "missing", "--ignore-value"), missing)
    check("put --ignore-lease of no key", ctl.fails("put", "missing", "x", "--ignore-lease"), missing)
    lease = "Error: etcdserver: requested lease not found"
    check("put with a missing lease", ctl.fails("put", "a", "x", "--lease", "7"), lease)
    large = "Error: etcdserver: request is too large"
    check("put of 1.6 MB", ctl.run("put", "large", stdin="x" * 1_600_000), (1, large))


def txns(ctl):
    # Key a has value 0 and version 4, b has value 2.
    success = 'value("a") = "0"\nversion("a") > "3"\nmod("b") < "4"\ncreate("t") = "0"\n'
    then = 'put t yes\nget a\ndel b\n\nput t no\n\n'
    check("txn that succeeds", ctl.ok("txn", stdin=f"{success}\n{then}"), "SUCCESS\n\nOK\n\na\n0\n\n1")
    check("keys after the txn", ctl.ok("get", "", "--prefix"), "a\n0\nc\n3\nt\nyes")
    check("txn that fails", ctl.ok("txn", stdin=f"{success}\n{then}"), "FAILURE\n\nOK")
    check("key after the txn", ctl.ok("get", "t"), "t\nno")
    twice = ctl.run("txn", stdin='version("a") > "0"\n\nput t 1\nput t 2\n\n\n')
    check("txn with a duplicate key", twice, (1, "Error: etcdserver: duplicate key given in txn request"))
    found = json.loads(ctl.ok("txn", "-w", "json", stdin='version("a") = "0"\n\n\ndel x\n\n'))
    # The releases of etcdctl differ in the name of the response.
    responses = [list(response["Response"].values()) for response in found["responses"]]
    check("txn as JSON", (found["header"], responses), (header(11), [[{"header": {"revision": 11}}]]))


def watches(ctl):
    history = ctl.background("watch", "a", "--rev", "2")
    check("watch with history", history.wait_lines(12), "PUT a 1 PUT a 0 PUT a 9 PUT a 0".split())
    prefix = ctl.background("watch", "w/", "--prefix", "--prev-kv", "--rev", "12")
    program = ["sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_REVISION"]
    command = ctl.background("watch", "w/2", "--rev", "12", "--", *program)
    for args in [("put", "w/1", "x"), ("put", "w/2", "y"), ("put", "w/1", "z"), ("del", "w/", "--prefix")]:
        ctl.ok(*args)
    wanted = "PUT w/1 x PUT w/2 y PUT w/1 x w/1 z DELETE w/1 z w/1  DELETE w/2 y w/2 ".split(" ")
    check("watch --prefix --prev-kv", prefix.wait_lines(len(wanted)), wanted)
    wanted = ["PUT", "w/2", "y", '"PUT" "w/2" 13', "DELETE", "w/2", "", '"DELETE" "w/2" 15']
    check("watch with a command", command.wait_lines(len(wanted)), wanted)

    several = ctl.background("watch", "--interactive")
    several.send("watch a --rev 5\nwatch t --rev 10\n")
    wanted = ["0", "0", "9", "a", "a", "a", "no", "t", "t", "yes"] + ["PUT"] * 5
    check("two watches on one stream", sorted(several.wait_lines(15)), sorted(wanted))
    several.send("progress\n")
    found = several.wait_lines(17)[15:]
    check("progress of each watch", found, ["progress notify: 15"] * 2)
    ctl.ok("put", "unrelated", "x")
    several.send("progress\n")
    check("progress again", several.wait_lines(19)[17:], ["progress notify: 16"] * 2)
    for background in [history, prefix, command, several]:
        background.interrupt()


def compactions(ctl):
    check("compaction", ctl.ok("compaction", "12"), "compacted revision 12")
    check("compaction --physical", ctl.ok("compaction", "13", "--physical"), "compacted revision 13")
    compacted = "Error: etcdserver: mvcc: required revision has been compacted"
    check("compaction again", ctl.fails("compaction", "12"), compacted)
    check("get of a compacted revision", ctl.fails("get", "a", "--rev", "4"), compacted)
    check("get after the compaction", ctl.ok("get", "a", "--rev", "13"), "a\n0")
    future = "Error: etcdserver: mvcc: required revision is a future revision"
    check("compaction of a future revision", ctl.fails("compaction", "99"), future)
    wanted = "watch was canceled (etcdserver: mvcc: required revision has been compacted)\n"
    wanted += "Error: watch is canceled by the server"
    check("watch of a compacted revision", ctl.fails("watch", "a", "--rev", "4"), wanted)
    number = re.compile(r"127\.0\.0\.1:\d+, \d+")
    check("hashkv after the compaction", ctl.ok("endpoint", "hashkv"), number)
