//! Equal commands produce equal bytes in any process, with any hash seed and in any environment.

use std::collections::VecDeque;
use std::env;
use std::fmt::Write;

use leasehold::backend::WatchRequest;
use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig, StreamId};
use leasehold::maintenance::{AlarmAction, AlarmRequest, AlarmType};
use leasehold::watch::WatchId;
use leasehold::{
    AutoCompaction, Compact, Compare, CompareOp, Delete, Get, Grant, KeyRange, LeaseId, Limits, Put,
    Revision, SortOrder, SortTarget, Txn, TxnOp, Watch,
};
use leasehold_testkit::helpers::{Random, millis, secs};

use super::subprocess::{print_trace, run_elsewhere};

const COMMANDS: u64 = 6000;

/// Set to the hash seed in a process that runs the commands.
const SEED_VARIABLE: &str = "LEASEHOLD_TEST_HASH_SEED";

#[test]
fn two_processes_print_equal_traces() {
    let one = run_with_seed("0", &[("LANG", "C"), ("HOME", "/nowhere"), ("RUST_BACKTRACE", "0")]);
    let other = run_with_seed(
        "18446744073709551557",
        &[("LANG", "tr_TR.UTF-8"), ("TZ", "Asia/Kathmandu"), ("RUST_BACKTRACE", "full"), ("NOISE", "xyz")],
    );
    assert!(one.len() > 1_000_000, "the trace has many commands: {} bytes", one.len());
    assert_eq!(one.len(), other.len());
    let difference = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert_eq!(difference, None, "the traces have no line that differs");
}

/// This process produces the trace twice, and another process prints it too.
#[test]
fn one_process_makes_equal_traces_twice() {
    let expected = trace(1);
    assert_eq!(trace(2), expected);
    assert_eq!(run_with_seed("3", &[]), expected);
}

/// The commands are worth comparing: each kind of answer and of error occurs.
#[test]
fn trace_contains_every_kind_of_answer() {
    let trace = trace(0);
    for expected in [
        "put Ok",
        "put Err(LeaseNotFound)",
        "put Err(KeyNotFound)",
        "put Err(NoSpace)",
        "put Err(Corrupt)",
        "delete Ok",
        "delete Err(Corrupt)",
        "txn Ok",
        "txn Err(DuplicateKey)",
        "txn Err(FutureRevision",
        "txn Err(Compacted",
        "get Ok",
        "get Err(Compacted",
        "get Err(FutureRevision",
        "grant Ok",
        "grant Err(LeaseExists)",
        "revoke Ok",
        "revoke Err(LeaseNotFound)",
        "expire Ok",
        "keep alive",
        "pause Ok",
        "resume Ok",
        "compact Ok",
        "compact Err(Compacted",
        "compact Err(FutureRevision",
        "alarm",
        "hash Ok",
        "time",
        "leases",
        "ttl",
        "event Event",
        "watch",
        "cancel",
        "progress",
        "timer",
        "receive [Watch",
        "receive [Timer",
    ] {
        let times = trace.lines().filter(|line| line.starts_with(expected)).count();
        assert!(times >= 3, "{expected} occurs {times} times");
    }
}

/// Runs in the processes that the other tests start.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn run_here() {
    let seed = env::var(SEED_VARIABLE).expect("the starting process sets the hash seed");
    print_trace(&trace(seed.parse().expect("a hash seed is a number")));
}

/// Returns the trace of a process with this hash seed and this environment, and nothing of the current environment.
fn run_with_seed(seed: &str, environment: &[(&str, &str)]) -> String {
    run_elsewhere("determinism::run_here", &[environment, &[(SEED_VARIABLE, seed)]].concat())
}

/// Runs the commands and returns every answer, every event, and the state hash after every 50 commands.
fn trace(hash_seed: u64) -> String {
    let limits = Limits { min_lease_ttl: millis(1), quota_bytes: Some(2_000_000), ..Limits::default() };
    let auto_compaction = Some(AutoCompaction::Periodic(secs(600)));
    let config = EngineConfig { hash_seed, limits, auto_compaction, ..EngineConfig::default() };
    let mut engine = Engine::new(config, Timestamp::ORIGIN);
    let (mut random, mut trace, mut seen) = (Random::new(42), String::new(), Revision::new(0));
    let streams: [StreamId; 3] = std::array::from_fn(|_| engine.open_stream());
    for n in 0..COMMANDS {
        let line = match random.below(5) {
            0 => watch_command(&mut engine, streams[random.below(3) as usize], &mut random),
            _ => command(&mut engine, &mut random),
        };
        let (deadline, woken) = (engine.next_deadline(), engine.take_ready_streams());
        writeln!(trace, "{line} next {deadline:?} woken {woken:?}").expect("a write to a string succeeds");
        let from = seen.next();
        for event in engine.events(from).into_iter().flatten() {
            writeln!(trace, "event {event:?}").expect("a write to a string succeeds");
        }
        seen = engine.status().header().revision();
        if n % 50 == 0 {
            engine.check_invariants();
            let all = engine.get(&Get::all());
            writeln!(trace, "state {:x} {:?} {all:?}", engine.state_hash(), engine.status())
                .expect("a write to a string succeeds");
        }
    }
    writeln!(trace, "end {:x} {:?}", engine.state_hash(), engine.status())
        .expect("a write to a string succeeds");
    trace
}

fn command(engine: &mut Engine, random: &mut Random) -> String {
    let lease = LeaseId::new(random.below(12) as i64 - 2);
    match random.below(40) {
        0..=9 => format!("put {:?}", engine.put(&some_put(random))),
        10..=12 => format!("delete {:?}", engine.delete(&Delete::range(some_range(random)).prev_kv())),
        13..=18 => format!("txn {:?}", engine.txn(&some_txn(engine, random, 2))),
        19..=22 => format!("get {:?}", engine.get(&some_get(engine, random))),
        23..=25 => {
            let grant = Grant::new(millis(random.below(60_000))).id(lease);
            format!("grant {:?}", engine.grant(&if random.one_in(4) { grant.keep_alive() } else { grant }))
        }
        26 => format!("revoke {:?}", engine.revoke(lease)),
        27 => format!("expire {:?}", engine.expire(lease)),
        28 => format!("keep alive {:?}", engine.keep_alive(lease)),
        29 => format!("pause {:?}", engine.pause_keep_alive(lease)),
        30 => format!("resume {:?}", engine.resume_keep_alive(lease)),
        31 => format!("compact {:?}", engine.compact(&Compact::new(some_revision(engine, random)))),
        32 => format!("alarm {:?}", engine.alarm(&some_alarm(random))),
        33 => format!("hash {:?}", engine.hash_kv(some_revision(engine, random).into())),
        34 => format!("ttl {:?}", engine.time_to_live(lease, true)),
        35 => format!("leases {:?}", engine.leases()),
        _ => {
            engine.advance(engine.now() + millis(random.below(20_000)));
            format!("time {:?}", engine.now())
        }
    }
}

fn watch_command(engine: &mut Engine, stream: StreamId, random: &mut Random) -> String {
    match random.below(10) {
        0..=2 => {
            let watch =
                Watch::range(some_range(random)).start_revision(some_revision(engine, random)).capacity(3);
            let watch = if random.one_in(2) { watch.prev_kv() } else { watch.progress_notify() };
            engine.watch(stream, &WatchRequest::Create(watch));
            "watch".to_owned()
        }
        3 => {
            engine.watch(stream, &WatchRequest::Cancel(WatchId::new(random.below(200) as i64)));
            "cancel".to_owned()
        }
        4 => {
            engine.watch(stream, &WatchRequest::Progress);
            "progress".to_owned()
        }
        5 => {
            engine.set_timer(stream, Some(engine.now() + millis(random.below(30_000))));
            "timer".to_owned()
        }
        _ => {
            let mut received = VecDeque::new();
            while engine.receive(stream, &mut received) {}
            format!("receive {received:?}")
        }
    }
}

fn some_key(random: &mut Random) -> String {
    format!("key/{}", random.below(60))
}

fn some_range(random: &mut Random) -> KeyRange {
    match random.below(12) {
        0 => KeyRange::from_wire(some_key(random), some_key(random)),
        1 => KeyRange::prefix(format!("key/{}", random.below(7))),
        2 if random.one_in(5) => KeyRange::from_key(some_key(random)),
        _ => KeyRange::key(some_key(random)),
    }
}

/// Returns a revision around the current one, mostly a little before it.
fn some_revision(engine: &Engine, random: &mut Random) -> i64 {
    engine.status().header().revision().get() + 8 - random.below(60) as i64
}

fn some_put(random: &mut Random) -> Put {
    let put = Put::new(some_key(random), format!("{}", random.below(1000))).prev_kv();
    match random.below(8) {
        0 | 1 => put.lease(random.below(10) as i64),
        2 => put.ignore_lease(),
        3 => Put::new(some_key(random), "").ignore_value(),
        _ => put,
    }
}

fn some_get(engine: &Engine, random: &mut Random) -> Get {
    let range = if random.one_in(2) { KeyRange::all() } else { some_range(random) };
    let target = SortTarget::from_wire(random.below(5) as i32);
    let get = Get::range(range)
        .limit(random.below(9) as i64)
        .sort(target, SortOrder::from_wire(random.below(3) as i32));
    match random.below(4) {
        0 => get.at(some_revision(engine, random)),
        1 => get.min_mod_revision(some_revision(engine, random)).keys_only(),
        _ => get,
    }
}

fn some_txn(engine: &Engine, random: &mut Random, depth: u32) -> Txn {
    let compare = Compare::version(some_range(random), CompareOp::from_wire(random.below(4) as i32), 1);
    let mut branch = || -> Vec<TxnOp> {
        let operations = 1 + random.below(4);
        (0..operations).map(|_| some_operation(engine, random, depth)).collect()
    };
    let (success, failure) = (branch(), branch());
    Txn::new().when([compare]).and_then(success).or_else(failure)
}

fn some_operation(engine: &Engine, random: &mut Random, depth: u32) -> TxnOp {
    match random.below(8) {
        0 if depth > 0 => some_txn(engine, random, depth - 1).into(),
        0 | 1 => some_get(engine, random).into(),
        2 => Delete::range(some_range(random)).prev_kv().into(),
        _ => some_put(random).into(),
    }
}

/// Returns an alarm request. An alarm is activated rarely and deactivated soon.
fn some_alarm(random: &mut Random) -> AlarmRequest {
    let action = random.pick(&[
        AlarmAction::Get,
        AlarmAction::Activate,
        AlarmAction::Deactivate,
        AlarmAction::Deactivate,
    ]);
    AlarmRequest { action, member_id: 1, alarm: random.pick(&[AlarmType::NoSpace, AlarmType::Corrupt]) }
}
