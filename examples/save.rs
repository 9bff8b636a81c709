//! Saving a store to a file that survives a crash at any moment, and loading it again: `cargo run --example save`.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use leasehold::{Get, ManualClock, Put, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("leasehold-save-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = show(&folder.join("store.leasehold"));
    fs::remove_dir_all(&folder)?;
    outcome
}

fn show(path: &Path) -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).build();
    let blue = store.put(("config/mode", "blue"))?.header().revision();
    store.put(("config/mode", "green"))?;
    let lease = store.grant(Duration::from_secs(10))?.id();
    store.put(Put::new("workers/7", "alive").lease(lease))?;
    clock.advance(Duration::from_secs(4));
    save(&store, path)?;
    println!("Saved {} keys in {} bytes.", store.status()?.keys(), fs::metadata(path)?.len());
    drop(store);

    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).load(File::open(path)?)?;
    println!("Loaded: the history is there, and a lease has the time that it had left.");
    let mode =
        |get: Get| Ok::<_, leasehold::Error>(store.get(get)?.kvs()[0].value().escape_ascii().to_string());
    println!(
        "  the mode is {}, and was {}",
        mode(Get::key("config/mode"))?,
        mode(Get::key("config/mode").at(blue))?
    );
    println!("  the lease has {:?} left", store.time_to_live(lease, false)?.ttl());
    clock.advance(Duration::from_secs(6));
    println!("  then there are {} workers", store.get("workers/7")?.count());

    let length = fs::metadata(path)?.len();
    File::options().write(true).open(path)?.set_len(length - 1)?;
    if let Err(refused) = Store::builder().load(File::open(path)?) {
        println!("Without its last byte: {refused}.");
    }
    Ok(())
}

/// Replaces the file by what the store holds now. After a crash there is the old file or the new one, and nothing between.
fn save(store: &Store, path: &Path) -> Result<(), Box<dyn Error>> {
    // Beside it, for only inside one file system is renaming a single step.
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    store.save(&mut file)?;
    // What was written must be on the disk before the name leads to it.
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    // And so must the name. A system where a folder cannot be opened does that by itself.
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        folder.sync_all()?;
    }
    Ok(())
}
