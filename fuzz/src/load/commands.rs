//! Commands on an engine, to fill one before a save and to use a loaded one.

use std::time::Duration;

use leasehold::engine::Engine;
use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::{Compact, Delete, Get, Grant, KeyRange, LeaseId, Put, Revision, Txn, TxnOp};

use super::super::choices::Choices;
use super::super::totals::Counts;

const KINDS: u8 = 12;

/// Runs one command of each kind.
pub(super) fn one_of_each(engine: &mut Engine, byte: u8, counts: &mut Counts) {
    for kind in 0..KINDS {
        step(engine, &mut Choices::new(&[kind, byte]), counts);
    }
}

/// Runs one command. It may fail.
pub(super) fn step(engine: &mut Engine, choices: &mut Choices<'_>, counts: &mut Counts) {
    let kind = choices.below(KINDS);
    let byte = choices.byte();
    let (key, lease) = (vec![b'a' + byte % 4], LeaseId::new(i64::from(byte >> 2 & 3)));
    let name = match kind {
        1 => {
            drop(engine.delete(&Delete::range(KeyRange::from_key(key))));
            "delete"
        }
        2 => {
            let twice = [TxnOp::put("a", [byte]), TxnOp::put(key, [1]), TxnOp::delete(KeyRange::all())];
            drop(engine.txn(&Txn::new().and_then(twice)));
            "txn"
        }
        3 => {
            let back = i64::from(byte % 8);
            drop(engine.compact(&Compact::new(Revision::new(revision(engine) - back))));
            "compact"
        }
        4 | 5 => {
            let grant = Grant::from_wire(1 + i64::from(byte % 16), lease.get());
            drop(engine.grant(&if byte > 127 { grant.keep_alive() } else { grant }));
            "grant"
        }
        6 => {
            drop(engine.revoke(lease));
            "revoke"
        }
        7 => {
            drop(if byte > 127 { engine.pause_keep_alive(lease) } else { engine.resume_keep_alive(lease) });
            "pause or resume"
        }
        8 => {
            engine.advance(engine.now() + Duration::from_millis(u64::from(byte) * 100));
            "advance"
        }
        9 => {
            engine.reclaim();
            "reclaim"
        }
        10 => {
            alarm(engine, byte);
            "alarm"
        }
        _ => {
            drop(engine.put(&Put::new(key, vec![byte; usize::from(byte >> 6)]).lease(lease)));
            "put"
        }
    };
    counts.add(name);
    drop(engine.take_garbage());
}

fn alarm(engine: &mut Engine, byte: u8) {
    let action = if byte < 100 { AlarmAction::Activate } else { AlarmAction::Deactivate };
    let alarm = if byte & 1 == 0 { AlarmType::NoSpace } else { AlarmType::Corrupt };
    drop(engine.alarm(&AlarmRequest { action, member_id: u64::from(byte & 2), alarm }));
}

/// Returns the current revision.
pub(super) fn revision(engine: &Engine) -> i64 {
    let nothing = engine.get(&Get::key("\0").count_only()).expect("the latest revision can be read");
    nothing.header().revision().get()
}
