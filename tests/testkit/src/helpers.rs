//! Short forms of common test steps.

use std::time::Duration;

use leasehold::clock::Timestamp;
use leasehold::concurrency::Session;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::{
    Compact, Event, EventType, Grant, KeyValue, LeaseId, Limits, ManualClock, Put, Revision, Store, Ticket,
};

/// Returns a store on a manual clock, and the clock.
pub fn manual() -> (Store, ManualClock) {
    manual_with(Limits::default())
}

pub fn manual_with(limits: Limits) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    (Store::builder().clock(clock.clone()).limits(limits).build(), clock)
}

/// Returns an engine at the origin of time.
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

/// Puts a pair and returns the revision of the put.
pub fn put(store: &Store, key: &'static str, value: &'static str) -> i64 {
    store.put((key, value)).expect("the put is valid").header().revision().get()
}

/// Deletes a key and returns the revision of the response.
pub fn delete(store: &Store, key: &'static str) -> i64 {
    store.delete(key).expect("the delete is valid").header().revision().get()
}

/// Puts keys with the value "v", attached to a lease.
pub fn put_leased(store: &Store, keys: &[&'static str], lease: impl Into<LeaseId>) {
    let lease = lease.into();
    for &key in keys {
        store.put(Put::new(key, "v").lease(lease)).expect("the lease of a leased put exists");
    }
}

/// Opens a session with a TTL of `ttl` seconds.
pub fn session(store: &Store, ttl: u64) -> Session {
    Session::open(store, secs(ttl)).wait().expect("the store grants the session's lease")
}

/// Takes the result of a completed ticket.
#[track_caller]
pub fn taken<T>(ticket: &mut Ticket<T>) -> T {
    ticket.try_wait().expect("the session is alive").expect("the ticket is completed")
}

/// Returns a physical compaction, which responds after the memory is released.
pub fn physical(revision: i64) -> Compact {
    Compact::new(revision).physical()
}

/// Grants a lease with an id.
pub fn grant(store: &Store, id: i64, ttl: Duration) {
    let granted = store.grant(Grant::new(ttl).id(id)).expect("the lease id is free");
    assert_eq!(granted.id(), LeaseId::new(id));
}

/// Returns the store's revision.
pub fn revision(store: &Store) -> i64 {
    store.status().expect("the store is open").header().revision().get()
}

/// Returns the value of a key, or `None` if the key is absent.
pub fn value(store: &Store, key: &'static str) -> Option<String> {
    let response = store.get(key).expect("a get of a key that is not empty succeeds");
    response.kvs().first().map(|kv| text(kv.value()))
}

/// Returns all live keys.
pub fn all_keys(store: &Store) -> Vec<String> {
    keys(store.get(leasehold::Get::all()).expect("a get of all keys succeeds").kvs())
}

pub fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Returns a pair as `key=value create/mod/version`, with `#` and the lease id if it has a lease.
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

/// Returns events as `put key=value create/mod/version` and `delete key mod`. The other fields of a delete must be unset.
pub fn show_events(events: &[Event]) -> Vec<String> {
    let show_event = |event: &Event| match event.event_type() {
        EventType::Put => format!("put {}", show(event.kv())),
        EventType::Delete => {
            let kv = event.kv();
            let rest = (kv.create_revision().get(), kv.version(), kv.value(), kv.lease());
            assert_eq!(
                rest,
                (0, 0, &b""[..], LeaseId::NONE),
                "a delete event has only a key and a mod revision"
            );
            format!("delete {} {}", text(kv.key()), kv.mod_revision())
        }
    };
    events.iter().map(show_event).collect()
}

/// Returns the events of a store from a revision on.
pub fn events(store: &Store, from: i64) -> Vec<String> {
    show_events(&store.events(from).expect("the revision is not compacted"))
}

/// A generator of pseudo-random numbers, which repeats them in each run.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Returns true once in `n` calls on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
