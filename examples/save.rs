//! Saves a store to a file so that a crash at any moment leaves a complete file, and loads it again: `cargo run
//! --example save`.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use leasehold::snapshot::Saved;
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
    let saved = save(&store, path)?;
    println!("Saved {} keys of revision {} in {} bytes.", saved.keys(), saved.revision(), saved.bytes());
    drop(store);

    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).load(File::open(path)?)?;
    println!("Loaded: history is complete, and the lease has its remaining time.");
    let mode =
        |get: Get| Ok::<_, leasehold::Error>(store.get(get)?.kvs()[0].value().escape_ascii().to_string());
    println!(
        "  the mode is {}, and was {} before",
        mode(Get::key("config/mode"))?,
        mode(Get::key("config/mode").at(blue))?
    );
    println!("  the lease has {:?} left", store.time_to_live(lease, false)?.ttl());
    clock.advance(Duration::from_secs(6));
    println!("  after this time there are {} workers", store.get("workers/7")?.count());

    File::options().write(true).open(path)?.set_len(saved.bytes() - 1)?;
    if let Err(refused) = Store::builder().load(File::open(path)?) {
        println!("Without its last byte: {refused}.");
    }
    Ok(())
}

/// Replaces the file by a save of the store. After a crash, the path has either the old file or the new one.
fn save(store: &Store, path: &Path) -> Result<Saved, Box<dyn Error>> {
    // Write to the same folder: a rename is atomic only inside one file system.
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    let saved = store.save(&mut file)?;
    // Sync the contents before the rename makes them visible.
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    // Sync the rename. A system on which a folder cannot be opened syncs it automatically.
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        folder.sync_all()?;
    }
    Ok(saved)
}
