//! The guard of tests that may wait for ever. It samples the threads of the whole process, and this process has few tests.

use leasehold::Store;
use leasehold_testkit::helpers::millis;
use leasehold_testkit::wakers::guarded;

/// The guard finds a body that waits for ever.
#[test]
#[cfg(target_os = "linux")]
#[should_panic(expected = "every thread sleeps")]
fn guard_of_a_body_that_waits_for_ever_panics() {
    guarded(|| {
        let store = Store::new();
        store.client().sleep(millis(300)).wait().unwrap();
        let mut watcher = store.watch("a").unwrap();
        watcher.recv().unwrap();
    });
}
