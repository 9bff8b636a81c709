//! Observers of elections: returned and skipped responses (R-ELC-11, R-ELC-12).

use std::task::{Context, Poll};

use leasehold::backend::Request;
use leasehold::service::{ElectionService, LeaderRequest, Observer};
use leasehold::{Client, LeaseId, Txn, TxnOp};
use leasehold_testkit::helpers::{self, Random, all_keys, delete, put, revision, secs};
use leasehold_testkit::threaded_backend::Remote;
use leasehold_testkit::wakers::{Count, guarded};

use crate::service_helpers::{
    Moment, assert_stopped, campaign, candidacy, come_and_go, electing, leased, meddling, observe, proclaim,
    replace_last, resign, say, seen, take, win,
};

const NOTHING: [&str; 0] = [];

fn poll(observer: &mut Observer, count: &Count) -> Option<String> {
    let polled = observer.poll_recv(&mut Context::from_waker(&count.waker()));
    match polled {
        Poll::Ready(received) => received.expect("the store is open").map(|seen| say(&seen)),
        Poll::Pending => None,
    }
}

/// R-ELC-11, R-ELC-12: the present leader is returned at once, with the revision of the read.
#[test]
fn observer_returns_present_leader_at_once() {
    let (store, _clock, elections) = electing();
    win(&elections, "e", 1, "v");
    campaign(&elections, "e", 2, "w").wait_timeout(secs(0)).unwrap();
    put(&store, "other", "1");
    let mut observer = observe(&elections, "e");
    put(&store, "other", "2");
    assert_eq!(seen(&mut observer), ["@5 e/1=v 2/2/1 #1"]);
    assert_eq!(seen(&mut observer), NOTHING);
    assert!(!observer.is_ended());
}

/// R-ELC-11: without a leader, the observer returns the first put, at its revision.
#[test]
fn observer_returns_first_candidate() {
    let (store, _clock, elections) = electing();
    let mut observer = observe(&elections, "e");
    put(&store, "e", "not inside");
    put(&store, "e0", "not inside");
    assert_eq!(seen(&mut observer), NOTHING);
    let won = win(&elections, "e", 1, "one");
    proclaim(&elections, &won, "two").unwrap();
    put(&store, "other", "1");
    assert_eq!(seen(&mut observer), ["@4 e/1=one 4/4/1 #1", "@6 e/1=two 4/5/2 #1"]);
}

/// R-ELC-11: later responses have the header of the watch.
#[test]
fn observer_returns_each_proclamation() {
    let (_store, _clock, elections) = electing();
    let won = win(&elections, "e", 1, "v");
    let mut observer = observe(&elections, "e");
    for value in ["v", "v", "new"] {
        proclaim(&elections, &won, value).unwrap();
    }
    let expected = ["@2 e/1=v 2/2/1 #1", "@3 e/1=v 2/3/2 #1", "@4 e/1=v 2/4/3 #1", "@5 e/1=new 2/5/4 #1"];
    assert_eq!(seen(&mut observer), expected);
}

/// R-ELC-11, step 2: the observer watches from the read's revision on, that revision included.
#[test]
fn observer_returns_candidate_deleted_in_read_revision() {
    let (store, _clock, elections) = electing();
    store.txn(come_and_go("e/9", "brief")).unwrap();
    let mut observer = observe(&elections, "e");
    assert_eq!(seen(&mut observer), ["@2 e/9=brief 2/2/1"]);
    win(&elections, "e", 1, "v");
    assert_eq!(seen(&mut observer), NOTHING, "the observer watches the deleted key");
    put(&store, "e/9", "again");
    assert_eq!(seen(&mut observer), ["@4 e/9=again 4/4/1"]);
    delete(&store, "e/9");
    assert_eq!(seen(&mut observer), ["@5 e/1=v 3/3/1 #1"]);
}

/// R-ELC-11, step 2: revisions before the read are not observed.
#[test]
fn observer_skips_candidate_deleted_before_read() {
    let (store, _clock, elections) = electing();
    store.txn(come_and_go("e/9", "brief")).unwrap();
    put(&store, "other", "1");
    assert_eq!(seen(&mut observe(&elections, "e")), NOTHING);
    put(&store, "e/9", "v");
    delete(&store, "e/9");
    let mut observer = observe(&elections, "e");
    assert_eq!(seen(&mut observer), NOTHING, "a delete is not a leader");
    put(&store, "e/9", "w");
    assert_eq!(seen(&mut observer), ["@6 e/9=w 6/6/1"]);
}

/// R-ELC-12: proclamations of a waiting candidate are skipped.
#[test]
fn observer_returns_new_leader_with_current_value() {
    let (store, _clock, elections) = electing();
    let first = win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    let mut observer = observe(&elections, "e");
    let waiting = candidacy("e", "e/2", 3, 2);
    for value in ["a", "b"] {
        proclaim(&elections, &waiting, value).unwrap();
    }
    resign(&elections, &first).unwrap();
    let won = take(&mut second).leader;
    proclaim(&elections, &won, "c").unwrap();
    put(&store, "other", "1");
    assert_eq!(seen(&mut observer), ["@3 e/1=one 2/2/1 #1", "@8 e/2=c 3/7/4 #2"]);
    resign(&elections, &won).unwrap();
    assert_eq!(seen(&mut observer), NOTHING, "a missing leader causes no response");
    win(&elections, "e", 3, "three");
    assert_eq!(seen(&mut observer), ["@10 e/3=three 10/10/1 #3"]);
}

/// R-ELC-12: the second leader may be skipped. The third leader's create revision is lower than revisions returned before.
#[test]
fn observer_may_skip_short_leader() {
    let (_store, _clock, elections) = electing();
    let first = win(&elections, "e", 1, "one");
    let mut second = campaign(&elections, "e", 2, "two");
    let mut third = campaign(&elections, "e", 3, "three");
    let mut observer = observe(&elections, "e");
    proclaim(&elections, &first, "new").unwrap();
    assert_eq!(seen(&mut observer), ["@4 e/1=one 2/2/1 #1", "@5 e/1=new 2/5/2 #1"]);
    resign(&elections, &first).unwrap();
    let won = take(&mut second).leader;
    resign(&elections, &won).unwrap();
    take(&mut third);
    assert_eq!(seen(&mut observer), ["@7 e/3=three 4/4/1 #3"]);
}

/// R-ELC-11: the read after the delete returns the put, once.
#[test]
fn observer_returns_replaced_leader_once() {
    let (store, _clock, elections) = electing();
    win(&elections, "e", 1, "one");
    let mut observer = observe(&elections, "e");
    assert_eq!(seen(&mut observer).len(), 1);
    store.txn(replace_last("e/1", "again")).unwrap();
    assert_eq!(seen(&mut observer), ["@3 e/1=again 3/3/1"]);
    let both = [TxnOp::put("e/1", "more"), TxnOp::put("e/2", "other")];
    store.txn(Txn::new().and_then(both)).unwrap();
    assert_eq!(seen(&mut observer), ["@4 e/1=more 3/4/2"]);
}

/// R-ELC-11: the observer ends without an error, for every receive method.
#[test]
fn observer_of_compacted_history_ends_without_error() {
    for (with_leader, received) in [(true, 1), (false, 0)] {
        let (store, _clock) = leased();
        let client = meddling(&store, |store, moment| {
            if !matches!(moment, Moment::Watch) {
                return false;
            }
            put(store, "other", "1");
            put(store, "other", "1");
            let now = put(store, "other", "2");
            store.compact(now).is_ok()
        });
        let elections = ElectionService::new(client);
        if with_leader {
            win(&elections, "e", 1, "v");
        }
        let mut observer = observe(&elections, "e");
        assert_eq!(seen(&mut observer).len(), received);
        assert!(observer.is_ended());
        win(&elections, "e", 1, "w");
        assert_eq!((observer.recv(), observer.try_recv()), (Ok(None), Ok(None)));
        assert_eq!(observer.recv_timeout(secs(1)), Ok(None));
    }
}

/// R-ELC-12: only the revisions from the read on must not be compacted.
#[test]
fn observer_returns_leader_older_than_compaction() {
    let (store, _clock, elections) = electing();
    let won = win(&elections, "e", 1, "v");
    for compacted in 3..6 {
        put(&store, "other", "1");
        store.compact(compacted).unwrap();
    }
    let mut observer = observe(&elections, "e");
    assert_eq!(seen(&mut observer), ["@5 e/1=v 2/2/1 #1"]);
    proclaim(&elections, &won, "w").unwrap();
    assert_eq!(seen(&mut observer), ["@6 e/1=w 2/6/2 #1"]);
    let mut of_nobody = observe(&elections, "f");
    put(&store, "f/1", "foreign");
    assert_eq!(seen(&mut of_nobody), ["@7 f/1=foreign 7/7/1"]);
}

/// R-ELC-12: the responses follow the store's history, with random writes and polls.
#[test]
fn observer_header_revisions_never_decrease() {
    for seed in 0..30 {
        let (store, _clock, elections) = electing();
        let mut random = Random::new(seed);
        let mut observers: Vec<Observer> = (0..3).map(|_| observe(&elections, "e")).collect();
        let mut newest = [(0, 0, String::new()), (0, 0, String::new()), (0, 0, String::new())];
        let keys = ["e/1", "e/2", "e/3", "other"];
        for step in 0..200 {
            match random.below(3) {
                0 => drop(store.delete(random.pick(&keys)).unwrap()),
                _ => drop(store.put((random.pick(&keys), format!("{step}"))).unwrap()),
            }
            for (observer, newest) in observers.iter_mut().zip(&mut newest) {
                while random.below(3) == 0
                    && let Some(item) = observer.try_recv().unwrap()
                {
                    let header = item.header.revision().get();
                    let modified = item.kv.mod_revision().get();
                    // R-ELC-12: the header never decreases, although a new leader's key may be older.
                    assert!(header >= newest.0 && header >= modified && header <= revision(&store));
                    let key = helpers::text(item.kv.key());
                    assert!(key != newest.2 || modified > newest.1, "a value is returned once: {item:?}");
                    *newest = (header, modified, key);
                }
            }
        }
        store.delete(leasehold::Delete::prefix("e/")).unwrap();
        observers.iter_mut().for_each(|observer| drop(seen(observer)));
        put(&store, "e/9", "last");
        let last = observers.iter_mut().map(seen);
        assert!(last.into_iter().all(|items| items.len() == 1 && items[0].contains("e/9=last")));
    }
}

/// etcd's TestV3ElectionObserve: two leaders, and observers from before the first and from in between.
#[test]
fn observers_return_proclamations_of_two_leaders() {
    let (_store, _clock, elections) = electing();
    let mut early = observe(&elections, "e");
    let first = win(&elections, "e", 1, "0");
    let mut late = observe(&elections, "e");
    let mut second = campaign(&elections, "e", 2, "10");
    (1..10).for_each(|n| assert!(proclaim(&elections, &first, n.to_string()).is_ok()));
    let mut values: Vec<Vec<String>> = Vec::new();
    let mut shown = |observer: &mut Observer| {
        let items = std::iter::from_fn(|| observer.try_recv().unwrap());
        values.push(items.map(|item| helpers::text(item.kv.value())).collect());
    };
    shown(&mut early);
    shown(&mut late);
    resign(&elections, &first).unwrap();
    let won = take(&mut second).leader;
    shown(&mut early);
    (11..20).for_each(|n| assert!(proclaim(&elections, &won, n.to_string()).is_ok()));
    shown(&mut early);
    shown(&mut late);
    let expect = |numbers: std::ops::Range<i32>| numbers.map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(values, [expect(0..10), expect(0..10), expect(10..11), expect(11..20), expect(19..20)]);
}

/// Each receive method of an observer returns the same responses.
#[test]
fn observer_has_all_receive_methods() {
    let (store, clock, elections) = electing();
    let mut observer = observe(&elections, "e");
    let count = Count::default();
    assert_eq!((poll(&mut observer, &count), observer.ready_channel().len()), (None, 0));
    let won = win(&elections, "e", 1, "0");
    assert_eq!((count.get(), observer.ready_channel().len()), (1, 1));
    assert_eq!(poll(&mut observer, &count).unwrap(), "@2 e/1=0 2/2/1 #1");
    proclaim(&elections, &won, "1").unwrap();
    assert_eq!(say(&observer.recv().unwrap().unwrap()), "@3 e/1=1 2/3/2 #1");
    assert_eq!(observer.recv_timeout(secs(0)), Ok(None));
    proclaim(&elections, &won, "2").unwrap();
    clock.advance(secs(5));
    assert_eq!(say(&observer.recv_timeout(secs(5)).unwrap().unwrap()), "@4 e/1=2 2/4/3 #1");
    assert_eq!(
        store.next_deadline(),
        Some(leasehold::clock::Timestamp::ORIGIN + secs(100)),
        "no timer is left"
    );
    let at_once = observe(&elections, "e");
    assert_eq!(at_once.ready_channel().len(), 1, "a present leader sets the token at once");
    proclaim(&elections, &won, "3").unwrap();
    assert_eq!(observer.ready_channel().recv(), Ok(()));
    assert_eq!(seen(&mut observer).len(), 1);
    drop(observer);
    assert_eq!(all_keys(&store), ["e/1"], "an observer puts no keys");
}

/// Keys of a namespaced observer have no prefix.
#[test]
fn observer_in_namespace_strips_prefix() {
    let (store, _clock) = leased();
    let elections = ElectionService::new(store.client().namespace("ns/"));
    let mut observer = observe(&elections, "e");
    put(&store, "e/1", "outside");
    let won = win(&elections, "e", 1, "v");
    assert_eq!(won.key, "e/1");
    proclaim(&elections, &won, "w").unwrap();
    resign(&elections, &won).unwrap();
    win(&elections, "e", 2, "x");
    assert_eq!(seen(&mut observer), ["@3 e/1=v 3/3/1 #1", "@6 e/1=w 3/4/2 #1", "@6 e/2=x 6/6/1 #2"]);
    assert_eq!(all_keys(&store), ["e/1", "ns/e/2"]);
}

#[test]
fn observer_reports_stopped_when_store_is_closed() {
    for with_leader in [false, true] {
        let (store, _clock, elections) = electing();
        if with_leader {
            win(&elections, "e", 1, "v");
        }
        let mut observer = observe(&elections, "e");
        assert_eq!(seen(&mut observer).len(), usize::from(with_leader));
        store.close();
        assert_stopped(observer.recv());
    }
}

#[test]
fn observer_of_closed_store_reports_stopped() {
    let (store, _clock, elections) = electing();
    store.close();
    assert_stopped(observe(&elections, "e").recv());
}

/// A read that fails after the first response returns its error.
#[test]
fn observer_reports_error_of_later_read() {
    let (store, _clock) = leased();
    let client = meddling(&store, |store, moment| {
        let is_second = matches!(moment, Moment::Call(Request::Get(_))) && revision(store) > 2;
        is_second.then(|| store.close()).is_some()
    });
    let elections = ElectionService::new(client);
    win(&elections, "e", 1, "v");
    let mut observer = observe(&elections, "e");
    assert_eq!(seen(&mut observer).len(), 1);
    delete(&store, "e/1");
    assert_stopped(observer.try_recv());
    assert!(observer.is_ended());
}

/// An observer over a backend that answers later.
#[test]
fn observer_follows_leaders_over_remote() {
    guarded(|| {
        let remote = Remote::new();
        let client = Client::new(remote.clone());
        let elections = ElectionService::new(client.clone());
        let mut observer = elections.observe(LeaderRequest { name: "e".into() });
        assert_eq!(observer.try_recv(), Ok(None));
        let granted = client.grant(leasehold::Grant::new(secs(10)).id(7)).wait();
        assert_eq!(granted.unwrap().id(), LeaseId::new(7));
        let won = campaign(&elections, "e", 7, "v").wait().unwrap().leader;
        assert_eq!(say(&observer.recv().unwrap().unwrap()), "@2 e/7=v 2/2/1 #7");
        proclaim(&elections, &won, "w").unwrap();
        assert_eq!(say(&observer.recv().unwrap().unwrap()), "@3 e/7=w 2/3/2 #7");
        resign(&elections, &won).unwrap();
        client.put(("e/8", "x")).wait().unwrap();
        assert_eq!(say(&observer.recv().unwrap().unwrap()), "@5 e/8=x 5/5/1");
        remote.script([secs(5)]);
        assert_eq!(observer.recv_timeout(secs(5)), Ok(None));
        remote.stop();
        assert_stopped(observer.recv());
    });
}

#[test]
fn recv_timeout_ends_while_read_is_unanswered() {
    guarded(|| {
        let remote = Remote::new();
        remote.hold();
        let elections = ElectionService::new(Client::new(remote.clone()));
        let mut observer = elections.observe(LeaderRequest { name: "e".into() });
        remote.script([secs(5)]);
        assert_eq!(observer.recv_timeout(secs(5)), Ok(None));
        remote.release(false);
    });
}

#[test]
fn late_read_sets_observer_ready_token() {
    guarded(|| {
        let remote = Remote::new();
        let client = Client::new(remote.clone());
        client.put(("e/1", "one")).wait().unwrap();
        let mut observer = ElectionService::new(client.clone()).observe(LeaderRequest { name: "e".into() });
        assert!(observer.recv().unwrap().is_some());
        assert_eq!((observer.recv_timeout(secs(0)), observer.ready_channel().len()), (Ok(None), 0));
        client.put(("e/2", "two")).wait().unwrap();
        client.delete("e/1").wait().unwrap();
        remote.hold();
        assert_eq!(observer.ready_channel().recv(), Ok(()));
        assert_eq!(observer.try_recv(), Ok(None), "the observer reads the next leader");
        remote.release(false);
        remote.advance(secs(0));
        assert_eq!(observer.ready_channel().len(), 1);
        assert_eq!(say(&observer.try_recv().unwrap().unwrap()), "@4 e/2=two 3/3/1");
    });
}
