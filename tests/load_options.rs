//! Loading a save after the process that wrote it has ended: what becomes of its leases and locks.

mod shorthand;

use leasehold::concurrency::{Election, Mutex, Session};
use leasehold::{Error, Grant, LoadOptions, ManualClock, Store, Timestamp};
use shorthand::{all_keys, manual, put_leased, secs, session, taken};

fn save(store: &Store) -> Vec<u8> {
    let mut saved = Vec::new();
    store.save(&mut saved).expect("a write to memory succeeds");
    saved
}

/// Loads a store with a new clock.
fn load(options: LoadOptions, saved: &[u8]) -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let builder = Store::builder().clock(clock.clone()).load_options(options);
    (builder.load(saved).expect("the save is valid"), clock)
}

/// R-LSE-12, CURATOR-396. No process renews the lease of a process that has ended, so its lock is released after the TTL.
#[test]
fn lock_of_ended_process_is_released_after_remaining_ttl() {
    let (store, clock) = manual();
    let ended = session(&store, 12);
    let _guard = Mutex::new(&ended, "disk").lock().unwrap();
    // The standing keep-alive renews every 4 s, so 9 s are left of the last renewal's 12 s after 7 s.
    clock.advance(secs(7));
    let (loaded, clock) = load(LoadOptions::new(), &save(&store));
    let mine = session(&loaded, 60);
    let mut waiting = Mutex::new(&mine, "disk").enqueue();
    clock.advance(secs(8));
    assert!(waiting.try_take().unwrap().is_none(), "the lease has a second left");
    clock.advance(secs(1));
    assert_eq!(taken(&mut waiting).key(), b"disk/2-0");
}

#[test]
fn loaded_lease_is_kept_by_returning_process() {
    let (store, _clock) = manual();
    let ended = session(&store, 10);
    let leadership = Election::new(&ended, "db").campaign("node-1").unwrap();
    let (key, token) = (leadership.key().to_vec(), leadership.token());
    let (loaded, clock) = load(LoadOptions::new(), &save(&store));
    clock.advance(secs(9));
    let returned = Session::open_with_lease(&loaded, ended.lease()).unwrap();
    let resumed = Election::new(&returned, "db").resume(key, token).wait().unwrap();
    clock.advance(secs(3600));
    resumed.proclaim("node-1, returned").unwrap();
    let other = session(&loaded, 10);
    let mut candidate = Election::new(&other, "db").stand("node-2");
    assert!(candidate.try_take().unwrap().is_none(), "the leadership was resumed");
    drop(resumed);
    drop(returned);
    assert!(taken(&mut candidate).token() > token);
}

#[test]
fn returning_process_finds_expired_lease_gone() {
    let (store, _clock) = manual();
    let ended = session(&store, 10);
    let (loaded, clock) = load(LoadOptions::new(), &save(&store));
    clock.advance(secs(10));
    assert_eq!(Session::open_with_lease(&loaded, ended.lease()).err(), Some(Error::LeaseNotFound));
}

#[test]
fn keep_standing_restores_standing_keep_alive() {
    let (store, _clock) = manual();
    store.grant(Grant::new(secs(12)).id(7).standing()).unwrap();
    put_leased(&store, &["a"], 7);
    let (loaded, clock) = load(LoadOptions::new().keep_standing(), &save(&store));
    assert_eq!(loaded.next_deadline(), None);
    clock.advance(secs(3600));
    assert_eq!(all_keys(&loaded), ["a"]);
    let (loaded, clock) = load(LoadOptions::new(), &save(&loaded));
    assert_eq!(loaded.next_deadline(), Some(Timestamp::ORIGIN + secs(12)));
    clock.advance(secs(12));
    assert_eq!(all_keys(&loaded), [""; 0]);
}
