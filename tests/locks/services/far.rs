//! Waits for locks and elections over a backend that answers later, and their drops (R-LCK-9, R-ELC-6).

use leasehold::service::{ElectionService, LockService};
use leasehold::{Client, Get, Grant, Put, Ticket, Watch};
use leasehold_testkit::helpers::{keys, secs, show_events};
use leasehold_testkit::threaded_backend::Remote;
use leasehold_testkit::wakers::guarded;

use crate::service_helpers::{assert_stopped, assert_waits, campaign, candidacy, lock, resign, unlock};

/// Returns a remote store in which lease 1 holds the lock `a`, and lease 2 exists.
fn far() -> (Remote, Client) {
    let remote = Remote::new();
    let client = Client::new(remote.clone());
    for id in [1, 2] {
        assert!(client.grant(Grant::new(secs(100)).id(id)).wait().is_ok());
    }
    assert!(client.put(Put::new("a/1", "v").lease(1)).wait().is_ok());
    (remote, client)
}

fn far_keys(client: &Client) -> Vec<String> {
    keys(client.get(Get::all()).wait().expect("the remote is running").kvs())
}

/// Lets all pending calls be answered, and the calls that follow from them.
fn settle(remote: &Remote) {
    (0..4).for_each(|_| remote.advance(secs(0)));
}

/// Answers the held calls and holds later ones. The remote thread answers no call while the caller polls, however slow the
/// caller is, so each poll receives one response.
fn answer_held(remote: &Remote) {
    remote.release(false);
    settle(remote);
    remote.hold();
}

/// R-LCK-9, R-ELC-6: drops a ticket after each number of polls, with late or reordered responses.
fn drop_at_every_phase<T: std::fmt::Debug>(begin: impl Fn(&Client) -> Ticket<T>) {
    for held_at in 0..6 {
        for backwards in [false, true] {
            let (remote, client) = far();
            if held_at == 0 {
                remote.hold();
            }
            let mut ticket = begin(&client);
            for step in 1..6 {
                settle(&remote);
                if held_at == step {
                    remote.hold();
                }
                if held_at < step {
                    break;
                }
                assert!(matches!(ticket.try_wait(), Ok(None)), "the ticket waits for a/1");
            }
            drop(ticket);
            remote.release(backwards);
            settle(&remote);
            assert_eq!(far_keys(&client), ["a/1"], "calls were held at {held_at}");
        }
    }
}

#[test]
fn remote_service_wait_dropped_at_any_phase_leaves_no_key() {
    guarded(|| {
        for lease in [0, 2] {
            drop_at_every_phase(|client| lock(&LockService::new(client.clone()), "a", lease));
            drop_at_every_phase(|client| campaign(&ElectionService::new(client.clone()), "a", lease, "v"));
        }
    });
}

/// R-ELC-2: a candidacy that proclaims between its put and its wait.
#[test]
fn remote_repeated_campaign_dropped_leaves_no_key() {
    guarded(|| {
        drop_at_every_phase(|client| {
            drop(client.put(Put::new("a/2", "old").lease(2)));
            campaign(&ElectionService::new(client.clone()), "a", 2, "new")
        });
    });
}

/// The lock becomes free while the calls of the waiter are held.
#[test]
fn remote_wait_dropped_while_acquiring_leaves_no_key() {
    guarded(|| {
        for steps in 0..4 {
            let (remote, client) = far();
            remote.hold();
            let mut ticket = lock(&LockService::new(client.clone()), "a", 2);
            for _ in 0..3 {
                answer_held(&remote);
                assert!(ticket.try_wait().unwrap().is_none());
            }
            remote.release(false);
            client.delete("a/1").wait().unwrap();
            remote.hold();
            let mut got = false;
            for _ in 0..steps {
                answer_held(&remote);
                got = got || ticket.try_wait().unwrap().is_some();
            }
            assert_eq!(got, steps == 3, "the ticket polls once for each answer");
            drop(ticket);
            remote.release(false);
            settle(&remote);
            assert_eq!(far_keys(&client), if got { vec!["a/2"] } else { vec![] });
        }
    });
}

/// Several tickets acquire one after another over a backend that answers later.
#[test]
fn remote_lock_is_acquired_by_each_waiter() {
    guarded(|| {
        let (remote, client) = far();
        let (locks, elections) = (LockService::new(client.clone()), ElectionService::new(client.clone()));
        let history = client.watch(Watch::all().start_revision(2));
        let second = lock(&locks, "a", 2);
        settle(&remote);
        let mut third = campaign(&elections, "a", 0, "v");
        settle(&remote);
        assert!(third.try_wait().unwrap().is_none(), "the lease is granted and the key is put");
        settle(&remote);
        unlock(&locks, "a/1");
        assert_eq!(second.wait().unwrap().key, "a/2");
        assert_eq!(third.wait_timeout(secs(0)), Ok(None));
        unlock(&locks, "a/2");
        let won = third.wait().unwrap().leader;
        assert_eq!(won.key, "a/3", "the service granted the lease");
        resign(&elections, &won).unwrap();
        settle(&remote);
        let mut reported = Vec::new();
        let mut history = history;
        while let Some(response) = history.try_recv().unwrap() {
            reported.extend(show_events(response.events()));
        }
        let expected = [
            "put a/1=v 2/2/1 #1",
            "put a/2= 3/3/1 #2",
            "put a/3=v 4/4/1 #3",
            "delete a/1 5",
            "delete a/2 6",
            "delete a/3 7",
        ];
        assert_eq!(reported, expected);
        let waiting = lock(&locks, "b", 0);
        remote.stop();
        drop(waiting);
        assert_stopped(lock(&locks, "b", 1).wait());
    });
}

#[test]
fn wait_timeout_ends_while_call_is_unanswered() {
    guarded(|| {
        let (remote, client) = far();
        remote.hold();
        let mut ticket = lock(&LockService::new(client), "a", 2);
        remote.script([secs(5)]);
        assert_eq!(ticket.wait_timeout(secs(5)), Ok(None));
        remote.release(false);
    });
}

#[test]
fn late_response_sets_ready_token() {
    guarded(|| {
        let (remote, client) = far();
        let mut ticket = lock(&LockService::new(client.clone()), "a", 2);
        for _ in 0..3 {
            settle(&remote);
            assert_waits(&mut ticket);
        }
        assert_eq!(ticket.ready_channel().len(), 0);
        client.delete("a/1").wait().unwrap();
        remote.hold();
        assert_eq!(ticket.ready_channel().recv(), Ok(()));
        assert_eq!(ticket.try_wait(), Ok(None), "the waiter reads its predecessor");
        remote.release(false);
        settle(&remote);
        assert_eq!(ticket.ready_channel().len(), 1);
    });
}

/// No token is set before the response.
#[test]
fn unanswered_call_sets_no_ready_token() {
    guarded(|| {
        let (remote, client) = far();
        remote.hold();
        let mut ticket = lock(&LockService::new(client), "free", 2);
        for _ in 0..100 {
            if ticket.ready_channel().try_recv().is_err() {
                return remote.release(false);
            }
            assert_waits(&mut ticket);
        }
        remote.release(false);
        panic!("the token is set after each poll without a result");
    });
}

#[test]
fn dropped_resign_call_without_lease_is_executed() {
    guarded(|| {
        let (remote, client) = far();
        let leader = Some(candidacy("a", "a/1", 2, 0));
        let request = leasehold::service::ResignRequest { leader };
        remote.hold();
        drop(ElectionService::new(client.clone()).resign(request));
        remote.release(false);
        settle(&remote);
        assert_eq!(far_keys(&client).len(), 0);
    });
}

/// The owner's lease expires shortly before the timeout, or at that instant. The waiter then has to read the queue, which takes
/// time over a network. If the wait times out first, the place is kept, and another wait returns the lock.
#[test]
fn lock_freed_at_timeout_is_acquired() {
    guarded(|| {
        for (ttl, gets) in [(9, true), (10, true), (11, false)] {
            let remote = Remote::new();
            let client = Client::new(remote.clone());
            let locks = LockService::new(client.clone());
            for (id, ttl) in [(1, ttl), (2, 100)] {
                client.grant(Grant::new(secs(ttl)).id(id)).wait().unwrap();
            }
            lock(&locks, "a", 1).wait().unwrap();
            let mut second = lock(&locks, "a", 2);
            assert_eq!(second.wait_timeout(secs(0)), Ok(None), "the second ticket is queued");
            remote.script([secs(10)]);
            let got = second.wait_timeout(secs(10)).unwrap();
            let is_got = got.is_some() || gets && second.wait_timeout(secs(1)).unwrap().is_some();
            assert_eq!(is_got, gets, "a lease of {ttl} s");
        }
    });
}
