//! Keys, transactions, history, watches and leases: `cargo run --example tour`.

use std::time::Duration;

use leasehold::{Compare, CompareOp, Get, Grant, KeyValue, ManualClock, Put, Store, Txn, TxnOp, Watch};

fn main() -> leasehold::Result<()> {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).build();

    println!("Keys: each change gets the store's next revision.");
    let blue = store.put(("config/mode", "blue"))?.header().revision();
    store.put(("config/mode", "green"))?;
    store.put(("config/size", "12"))?;
    show(store.get(Get::prefix("config/"))?.kvs());

    println!("A transaction: swap the mode if it has not changed since it was read.");
    let seen = store.get("config/mode")?.kvs()[0].mod_revision();
    let swap = || {
        Txn::new()
            .when([Compare::mod_revision("config/mode", CompareOp::Equal, seen)])
            .and_then([TxnOp::put("config/mode", "red"), TxnOp::delete("config/size")])
            .or_else([TxnOp::get("config/mode")])
    };
    println!("  first attempt: {}", store.txn(swap())?.succeeded());
    println!("  second attempt: {}", store.txn(swap())?.succeeded());

    println!("History: each old state can be read, and each change listed, until it is compacted.");
    println!("  at revision {blue}:");
    show(store.get(Get::prefix("config/").at(blue))?.kvs());
    for event in store.events(blue)? {
        let key = event.kv().key().escape_ascii();
        println!("  revision {}: {:?} {key}", event.kv().mod_revision(), event.event_type());
    }
    store.compact(store.status()?.header().revision())?;
    if let Err(error) = store.get(Get::key("config/mode").at(blue)) {
        println!("  after compacting: {error}");
    }

    println!("Watches: later changes, each once and in order, no matter how late they are received.");
    let mut watcher = store.watch(Watch::prefix("workers/").prev_kv())?;

    println!("Leases: a key is deleted when its lease expires, here under a clock that is moved by hand.");
    let lease = store.grant(Grant::new(Duration::from_secs(10)))?.id();
    store.put(Put::new("workers/7", "alive").lease(lease))?;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(4));
        let left = store.time_to_live(lease, false)?.ttl();
        println!("  {:?}: {} worker(s), lease has {left:?}", store.now(), store.get("workers/7")?.count());
    }
    while let Some(response) = watcher.try_recv()? {
        for event in response.events() {
            let (key, before) = (event.kv().key().escape_ascii(), event.prev_kv().map(KeyValue::value_str));
            println!(
                "  watched at {}: {:?} {key}, before: {before:?}",
                event.kv().mod_revision(),
                event.event_type()
            );
        }
    }
    Ok(())
}

fn show(kvs: &[KeyValue]) {
    for kv in kvs {
        let (key, value) = (kv.key().escape_ascii(), kv.value().escape_ascii());
        println!("  {key} = {value} (revision {}, version {})", kv.mod_revision(), kv.version());
    }
}
