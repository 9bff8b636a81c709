//! What many tests say, in few words.

use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::concurrency::Session;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{
    Compact, Event, EventType, Grant, KeyValue, LeaseId, Limits, ManualClock, Put, Revision, Store, Ticket,
};

/// A store on a clock that stands still, and the clock.
pub fn manual() -> (Store, ManualClock) {
    manual_with(Limits::default())
}

pub fn manual_with(limits: Limits) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    (Store::builder().clock(clock.clone()).limits(limits).build(), clock)
}

/// An engine at the origin of time.
pub fn engine() -> Engine {
    Engine::new(EngineConfig::default(), Timestamp::ORIGIN)
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub const fn at(revision: i64) -> Revision {
    Revision::new(revision)
}

/// Puts a pair, and gives the revision of that.
pub fn put(store: &Store, key: &'static str, value: &'static str) -> i64 {
    store.put((key, value)).expect("the put is good").header().revision().get()
}

/// Deletes a key, and gives the revision of the answer.
pub fn delete(store: &Store, key: &'static str) -> i64 {
    store.delete(key).expect("the delete is good").header().revision().get()
}

/// Puts keys with the value "v", attached to a lease.
pub fn put_leased(store: &Store, keys: &[&'static str], lease: impl Into<LeaseId>) {
    let lease = lease.into();
    for &key in keys {
        store.put(Put::new(key, "v").lease(lease)).expect("the lease exists");
    }
}

/// A session with a TTL of so many seconds.
pub fn session(store: &Store, ttl: u64) -> Session {
    Session::open(store, secs(ttl)).wait().expect("a lease is granted")
}

/// Takes what a ticket has waited for.
#[track_caller]
pub fn taken<T>(ticket: &mut Ticket<T>) -> T {
    ticket.try_wait().expect("the session lives").expect("it is its turn")
}

/// A compaction that answers when the memory was given back.
pub fn physical(revision: i64) -> Compact {
    Compact::new(revision).physical()
}

/// Grants a lease under an id.
pub fn grant(store: &Store, id: i64, ttl: Duration) {
    let granted = store.grant(Grant::new(ttl).id(id)).expect("the id is free");
    assert_eq!(granted.id(), LeaseId::new(id));
}

/// The store's revision.
pub fn revision(store: &Store) -> i64 {
    store.status().expect("the store is open").header().revision().get()
}

/// The value of a key, if it exists.
pub fn value(store: &Store, key: &'static str) -> Option<String> {
    let response = store.get(key).expect("the key is not empty");
    response.kvs().first().map(|kv| text(kv.value()))
}

/// The keys that exist.
pub fn all_keys(store: &Store) -> Vec<String> {
    keys(store.get(leasehold::Get::all()).expect("the range is not empty").kvs())
}

pub fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A pair as `key=value create/mod/version`, with the lease, if it has one, after a `#`.
pub fn show(kv: &KeyValue) -> String {
    let (key, value) = (text(kv.key()), text(kv.value()));
    let numbers = format!("{}/{}/{}", kv.create_revision(), kv.mod_revision(), kv.version());
    match kv.lease().get() {
        0 => format!("{key}={value} {numbers}"),
        lease => format!("{key}={value} {numbers} #{lease}"),
    }
}

pub fn show_all(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(show).collect()
}

pub fn keys(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(|kv| text(kv.key())).collect()
}

/// Events as `put key=value create/mod/version` and `delete key mod`. Of a delete nothing else is set.
pub fn show_events(events: &[Event]) -> Vec<String> {
    let show_event = |event: &Event| match event.event_type() {
        EventType::Put => format!("put {}", show(event.kv())),
        EventType::Delete => {
            let kv = event.kv();
            let rest = (kv.create_revision().get(), kv.version(), kv.value(), kv.lease());
            assert_eq!(rest, (0, 0, &b""[..], LeaseId::NONE), "a delete has a key and a mod revision only");
            format!("delete {} {}", text(kv.key()), kv.mod_revision())
        }
    };
    events.iter().map(show_event).collect()
}

/// The events of a store from a revision on.
pub fn events(store: &Store, from: i64) -> Vec<String> {
    show_events(&store.events(from).expect("the revision is not compacted"))
}

/// Numbers that look random and are the same in each run.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// True one time out of `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
