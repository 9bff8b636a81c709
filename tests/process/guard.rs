//! The guard of test bodies that can block forever. It samples the threads of its process, so it is tested in this binary.

use leasehold::Store;
use leasehold_testkit::helpers::millis;
use leasehold_testkit::wakers::guarded;

/// The guard panics if the body blocks forever.
#[test]
#[cfg(target_os = "linux")]
#[should_panic(expected = "every thread sleeps")]
fn guard_of_a_body_that_blocks_forever_panics() {
    guarded(|| {
        let store = Store::new();
        store.client().sleep(millis(300)).wait().unwrap();
        let mut watcher = store.watch("a").unwrap();
        watcher.recv().unwrap();
    });
}
