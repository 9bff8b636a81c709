"""A client that waits for a server's answer until it is killed. It uses stubs that gRPC's Python library generates.

Arguments: an address, a kind of call, a name and a lease. The call begins once a line arrives, and a line is printed for each
answer.
"""

import os
import sys
import threading

sys.path.append(os.environ["FOREIGN_STUBS"])

import election_pb2
import election_pb2_grpc
import grpc
import lock_pb2
import lock_pb2_grpc
import rpc_pb2
import rpc_pb2_grpc


def requests(*first):
    """Returns requests of a stream that stays open."""
    yield from first
    threading.Event().wait()


def keep_alives(lease):
    while True:
        yield rpc_pb2.LeaseKeepAliveRequest(ID=lease)


def main():
    address, kind, name, lease = sys.argv[1:]
    name, lease = name.encode(), int(lease)
    channel = grpc.insecure_channel(address)
    print("ready", flush=True)
    sys.stdin.readline()
    if kind == "Lock":
        answers = [lock_pb2_grpc.LockStub(channel).Lock(lock_pb2.LockRequest(name=name, lease=lease))]
    elif kind == "Campaign":
        request = election_pb2.CampaignRequest(name=name, lease=lease, value=b"candidate")
        answers = [election_pb2_grpc.ElectionStub(channel).Campaign(request)]
    elif kind == "Observe":
        answers = election_pb2_grpc.ElectionStub(channel).Observe(election_pb2.LeaderRequest(name=name))
    elif kind == "Watch":
        create = rpc_pb2.WatchCreateRequest(key=name, range_end=b"\0", start_revision=1)
        creates = [rpc_pb2.WatchRequest(create_request=create)] * 3
        answers = rpc_pb2_grpc.WatchStub(channel).Watch(requests(*creates))
    else:
        answers = rpc_pb2_grpc.LeaseStub(channel).LeaseKeepAlive(keep_alives(lease))
    for _ in answers:
        print("answer", flush=True)


main()
