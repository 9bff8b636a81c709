//! The ready channel of a watcher or a stream, which holds a token while there is something to receive, for `select!`.

use crossbeam_channel::{TryRecvError, bounded, select_biased};
use leasehold::watch::WatchStream;
use leasehold::{Compact, Error, Store, Watch, Watcher};
use leasehold_testkit::helpers::{self, manual, put, secs};
use leasehold_testkit::watch_helpers::{drain_watcher, put_times, responses, revisions, stream};

/// Returns a watcher after receiving everything.
fn watcher_of(store: &Store, watch: Watch) -> Watcher {
    let mut watcher = store.watch(watch).expect("the watch is valid");
    drain_watcher(&mut watcher);
    watcher
}

fn is_ready(watcher: &Watcher) -> bool {
    !watcher.ready_channel().is_empty()
}

/// The token is in the channel exactly while the watcher can receive, also if the channel is requested later.
#[test]
fn ready_token_is_set_while_events_are_available() {
    let (store, _clock) = manual();
    let mut watcher = watcher_of(&store, Watch::key("a"));
    assert!(!is_ready(&watcher));
    put(&store, "b", "not watched");
    assert!(!is_ready(&watcher));
    put_times(&store, "a", 3);
    for _ in 0..3 {
        assert!(is_ready(&watcher));
        assert!(watcher.try_recv().unwrap().is_some());
    }
    assert!(!is_ready(&watcher));
    put(&store, "a", "v");
    let asked_late = watcher_of(&store, Watch::key("a"));
    put(&store, "a", "v");
    assert!(is_ready(&asked_late), "the token is set for an event older than the channel");
}

/// There is one token for any number of events, and taking the token receives nothing.
#[test]
fn ready_channel_has_one_token_for_all_events() {
    let (store, _clock) = manual();
    let mut watcher = watcher_of(&store, Watch::key("a"));
    let ready = watcher.ready_channel().clone();
    assert_eq!(ready.capacity(), Some(1));
    put_times(&store, "a", 5);
    assert_eq!((ready.try_recv(), ready.try_recv()), (Ok(()), Err(TryRecvError::Empty)));
    for left in (0..5).rev() {
        assert!(watcher.try_recv().unwrap().is_some());
        assert_eq!(ready.try_recv().is_ok(), left > 0, "a receive sets the token again if events are left");
    }
    assert_eq!(watcher.try_recv(), Ok(None));
}

/// The token is taken without a receive. The next event sets the token again.
#[test]
fn token_taken_without_a_receive_is_set_again() {
    let (store, _clock) = manual();
    let mut watcher = watcher_of(&store, Watch::key("a"));
    for n in 0..10 {
        put(&store, "a", "v");
        watcher.ready_channel().recv().unwrap();
        // The token was taken and nothing received, so the next event must set it again.
        put(&store, "a", "w");
        watcher.ready_channel().recv().unwrap();
        assert_eq!(drain_watcher(&mut watcher).len(), 2, "{n}");
        assert!(!is_ready(&watcher));
    }
}

/// After an overflow without further writes, a receiver that polls only on a token receives every event.
#[test]
fn overflowed_events_are_drained_by_the_token() {
    for (capacity, puts) in [(1, 2), (1, 50), (3, 2500), (128, 129)] {
        let (store, _clock) = manual();
        let mut watcher = watcher_of(&store, Watch::key("a").capacity(capacity));
        let ready = watcher.ready_channel().clone();
        put_times(&store, "a", puts);
        let mut seen = Vec::new();
        while ready.try_recv().is_ok() {
            seen.extend(revisions(&watcher.try_recv().unwrap()));
        }
        assert_eq!(seen, (2..puts as i64 + 2).collect::<Vec<_>>(), "{capacity}");
        assert_eq!(watcher.try_recv(), Ok(None));
    }
}

/// A stream of several watchers is drained by its token alone, although some watchers read history without a match.
#[test]
fn stream_is_drained_by_the_token() {
    let (store, _clock) = manual();
    put_times(&store, "other", 9000);
    let mut stream = stream(&store);
    for watch in [
        Watch::key("a").start_revision(2),
        Watch::key("other").start_revision(5000).capacity(1),
        Watch::key("a").capacity(1),
    ] {
        stream.create(watch);
    }
    let ready = stream.ready_channel().clone();
    put_times(&store, "a", 20);
    let mut all = Vec::new();
    while ready.try_recv().is_ok() {
        all.extend(stream.try_recv().unwrap());
    }
    let of = |id: i64| revisions(all.iter().filter(|response| response.watch_id().get() == id));
    let a: Vec<i64> = (9002..=9021).collect();
    assert_eq!((of(0), of(2), of(1)), (a.clone(), a, (5000..=9001).collect()));
    assert_eq!(responses(&mut stream).len(), 0);
}

/// The end of a watch and the close of the store set the token too.
#[test]
fn end_of_watch_or_store_sets_the_token() {
    let (store, _clock) = manual();
    let mut overtaken = watcher_of(&store, Watch::key("a").capacity(1));
    let mut live = watcher_of(&store, Watch::key("b"));
    let (first, second) = (overtaken.ready_channel().clone(), live.ready_channel().clone());
    put_times(&store, "a", 5);
    store.compact(Compact::new(6)).unwrap();
    let mut lost = Vec::new();
    while first.try_recv().is_ok() {
        lost.extend(overtaken.try_recv().err());
    }
    assert!(matches!(lost[..], [Error::Compacted { .. }]), "{lost:?}");
    assert!(second.try_recv().is_err());
    store.close();
    assert_eq!(second.try_recv(), Ok(()));
    assert_eq!(live.try_recv(), Err(Error::Stopped));
}

/// The expiry of a lease sets the token when the clock advances.
#[test]
fn lease_expiry_sets_the_token() {
    let (store, clock) = manual();
    helpers::grant(&store, 7, secs(5));
    helpers::put_leased(&store, &["a"], 7);
    let watcher = watcher_of(&store, Watch::key("a"));
    clock.advance(secs(4));
    assert!(!is_ready(&watcher));
    clock.advance(secs(1));
    assert!(is_ready(&watcher));
}

/// `select!` over two watchers and another channel, in the order of the list.
#[test]
fn select_receives_from_several_watchers() {
    let (store, _clock) = manual();
    let mut first = watcher_of(&store, Watch::key("a").capacity(2));
    let mut second = watcher_of(&store, Watch::key("b"));
    let (stop, stopped) = bounded::<()>(1);
    put_times(&store, "b", 3);
    put_times(&store, "a", 5);
    stop.send(()).unwrap();
    let mut seen = String::new();
    loop {
        select_biased! {
            recv(first.ready_channel()) -> _ => seen.extend(first.try_recv().unwrap().map(|_| 'a')),
            recv(second.ready_channel()) -> _ => seen.extend(second.try_recv().unwrap().map(|_| 'b')),
            recv(stopped) -> _ => break,
        }
    }
    assert_eq!(seen, "aaabbb", "two of five events fit the queue, and the others come at once");
}

/// Dropping a watcher disconnects its channel. Watchers and streams can be sent to another thread.
#[test]
fn dropped_watcher_disconnects_its_channel() {
    let (store, _clock) = manual();
    let watcher = watcher_of(&store, Watch::key("a"));
    let ready = watcher.ready_channel().clone();
    drop(watcher);
    put(&store, "a", "v");
    assert_eq!(ready.try_recv(), Err(TryRecvError::Disconnected));
    fn can_be_sent<T: Send + std::fmt::Debug + 'static>() {}
    can_be_sent::<Watcher>();
    can_be_sent::<WatchStream>();
}
