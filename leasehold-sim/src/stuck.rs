//! The report of what clients wait for.

use std::fmt::Write;

use leasehold::engine::Engine;
use leasehold::{Get, KeyValue, LeaseId, Watch};

use crate::stream::Stream;
use crate::world::World;

/// Writes what each client that is not done waits for.
pub(crate) fn report(world: &World) -> String {
    let mut report = String::new();
    for client in world.clients.iter().filter(|client| !client.is_done) {
        let process = &world.processes[client.process];
        let mut waits = Vec::new();
        if !process.is_alive {
            waits.push("has crashed and is not started again".to_owned());
        }
        if process.pause.is_some() {
            waits.push("is paused".to_owned());
        }
        if process.partition.is_some() {
            waits.push("is partitioned".to_owned());
        }
        if let Some(actor) = client.actor {
            let calls = world.calls.values().filter(|call| call.actor == Some(actor) && !call.is_answered);
            waits.extend(calls.map(|call| {
                format!("waits for the answer to `{}`", world.history.operations[call.record].request)
            }));
            for stream in world.streams.values().filter(|stream| stream.actor == Some(actor)) {
                waits.extend(of_stream(world, client.process, stream));
            }
        }
        if waits.is_empty() && process.is_alive && process.pause.is_none() {
            let can_continue = match client.actor {
                Some(actor) => world.actors.get(&actor).is_some_and(|actor| actor.is_scheduled),
                None => true,
            };
            waits.extend(can_continue.then(|| "is about to continue".to_owned()));
        }
        if waits.is_empty() {
            waits.push("waits for something outside the simulation".to_owned());
        }
        for wait in waits {
            // Writing to a string does not fail.
            let _written = writeln!(report, "{} {wait}", client.label);
        }
    }
    report
}

fn of_stream(world: &World, process: usize, stream: &Stream) -> Vec<String> {
    let mut waits: Vec<String> = stream.watches.iter().map(|watch| of_watch(world, process, watch)).collect();
    waits.retain(|wait| !wait.is_empty());
    if let Some(at) = stream.timer {
        waits.push(format!("waits for the time {at}"));
    }
    if stream.watches.is_empty() {
        waits.extend(stream.leases.iter().map(|lease| format!("waits for the end of lease {lease:x}")));
    }
    waits
}

fn of_watch(world: &World, process: usize, watch: &Watch) -> String {
    let range = watch.get_range();
    if !range.range_end().is_empty() {
        return format!("watches {range}");
    }
    let Some(kv) = read(&world.engine, range.start()) else {
        return format!("watches {range}, which is absent");
    };
    let owner = owner_of(world, kv.lease());
    if owner == Some(process) && is_queue_key(&kv) && watch.get_no_put() {
        // A waiter watches its own key too.
        let mine = format!("{:x}-", kv.lease());
        let last = kv.key().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if last.starts_with(mine.as_bytes()) && !waits_for_own(world, &kv, watch) {
            return String::new();
        }
    }
    let of = owner.map_or_else(|| "no process".to_owned(), |owner| world.processes[owner].name.to_string());
    let token = kv.create_revision();
    format!("waits for the deletion of {range} (token {token}), held by lease {:x} of {of}", kv.lease())
}

/// Returns whether a watch of a key of the same session is that of a predecessor: a later key of the session is queued too.
fn waits_for_own(world: &World, kv: &KeyValue, watch: &Watch) -> bool {
    let same = |other: &Stream| {
        other.watches.iter().any(|other| other.get_range() == watch.get_range())
            && other.watches.iter().any(|other| {
                let other = read(&world.engine, other.get_range().start());
                other.is_some_and(|other| {
                    other.lease() == kv.lease() && other.create_revision() > kv.create_revision()
                })
            })
    };
    world.streams.values().any(same)
}

fn read(engine: &Engine, key: &[u8]) -> Option<KeyValue> {
    engine.get(&Get::key(key)).ok()?.kv().cloned()
}

pub(crate) fn owner_of(world: &World, lease: LeaseId) -> Option<usize> {
    world.leases.get(&lease).map(|lease| lease.process)
}

/// Returns whether a key has the form of a queue key: a name, and its lease in hexadecimal.
pub(crate) fn is_queue_key(kv: &KeyValue) -> bool {
    queue_name(kv).is_some()
}

/// Returns the name of the lock or election in whose queue a key is.
pub(crate) fn queue_name(kv: &KeyValue) -> Option<&[u8]> {
    if kv.lease() == LeaseId::NONE {
        return None;
    }
    let slash = kv.key().iter().rposition(|byte| *byte == b'/')?;
    let last = &kv.key()[slash + 1..];
    let lease = format!("{:x}", kv.lease());
    let rest = last.strip_prefix(lease.as_bytes())?;
    (rest.is_empty() || rest[0] == b'-').then(|| &kv.key()[..slash])
}
