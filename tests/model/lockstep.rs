//! The crate and the naive model in lockstep over random lists of requests, and tests of the model itself.

use leasehold_testkit::adapter::engine::EngineSubject;
use leasehold_testkit::cases::cases;
use leasehold_testkit::lockstep::{Driver, Tally};
use leasehold_testkit::mistaken::{Mistake, Mistaken};
use leasehold_testkit::model::{Model, Row, Stage};
use leasehold_testkit::wire::{
    DeleteRangeRequest, Op, PutRequest, Request, Response, Settings, Subject, TxnRequest, WatchCreate,
    WatchResponse,
};

/// The number of random lists of requests.
const LISTS: u32 = 200;

/// How often a run of `LISTS` lists must meet each kind of request, refusal and situation.
const ENOUGH: u32 = 10;

/// Every refusal: the request, the stage and the error.
const REJECTIONS: [(&str, Stage, Row); 48] = [
    ("Range", Stage::Static, Row::EmptyKey),
    ("Range", Stage::Static, Row::InvalidSort),
    ("Range", Stage::Dynamic, Row::Compacted),
    ("Range", Stage::Dynamic, Row::Future),
    ("Put", Stage::Quota, Row::NoSpace),
    ("Put", Stage::Static, Row::EmptyKey),
    ("Put", Stage::Static, Row::ValueProvided),
    ("Put", Stage::Static, Row::LeaseProvided),
    ("Put", Stage::Size, Row::RequestTooLarge),
    ("Put", Stage::Alarm, Row::NoSpace),
    ("Put", Stage::Alarm, Row::Corrupt),
    ("Put", Stage::Dynamic, Row::LeaseNotFound),
    ("Put", Stage::Dynamic, Row::KeyNotFound),
    ("DeleteRange", Stage::Static, Row::EmptyKey),
    ("DeleteRange", Stage::Size, Row::RequestTooLarge),
    ("DeleteRange", Stage::Alarm, Row::Corrupt),
    ("Txn", Stage::Quota, Row::NoSpace),
    ("Txn", Stage::Static, Row::EmptyKey),
    ("Txn", Stage::Static, Row::KeyNotFound),
    ("Txn", Stage::Static, Row::ValueProvided),
    ("Txn", Stage::Static, Row::LeaseProvided),
    ("Txn", Stage::Static, Row::TooManyOps),
    ("Txn", Stage::Static, Row::InvalidSort),
    ("Txn", Stage::Overlap, Row::DuplicateKey),
    ("Txn", Stage::Size, Row::RequestTooLarge),
    ("Txn", Stage::Alarm, Row::NoSpace),
    ("Txn", Stage::Alarm, Row::Corrupt),
    ("Txn", Stage::Dynamic, Row::Compacted),
    ("Txn", Stage::Dynamic, Row::Future),
    ("Txn", Stage::Dynamic, Row::LeaseNotFound),
    ("Txn", Stage::Dynamic, Row::KeyNotFound),
    ("Txn", Stage::Execution, Row::KeyNotFound),
    ("Compact", Stage::Alarm, Row::Corrupt),
    ("Compact", Stage::Dynamic, Row::Compacted),
    ("Compact", Stage::Dynamic, Row::Future),
    ("HashKv", Stage::Dynamic, Row::Compacted),
    ("HashKv", Stage::Dynamic, Row::Future),
    ("Events", Stage::Dynamic, Row::Compacted),
    ("LeaseGrant", Stage::Quota, Row::NoSpace),
    ("LeaseGrant", Stage::Alarm, Row::NoSpace),
    ("LeaseGrant", Stage::Alarm, Row::Corrupt),
    ("LeaseGrant", Stage::Dynamic, Row::TtlTooLarge),
    ("LeaseGrant", Stage::Dynamic, Row::LeaseExists),
    ("LeaseRevoke", Stage::Alarm, Row::Corrupt),
    ("LeaseRevoke", Stage::Dynamic, Row::LeaseNotFound),
    ("LeaseExpire", Stage::Dynamic, Row::LeaseNotFound),
    ("LeasePauseKeepAlive", Stage::Dynamic, Row::LeaseNotFound),
    ("LeaseResumeKeepAlive", Stage::Dynamic, Row::LeaseNotFound),
];

/// The number of kinds of requests.
const OPERATIONS: usize = 23;

#[test]
fn engine_matches_model_on_random_lists() {
    let tally = engine().explore(cases(LISTS));
    println!("{tally}");
    // Lists from another seed may miss situations.
    if std::env::var_os("LEASEHOLD_SEED").is_none() {
        assert_met(&tally);
    }
}

/// Asserts that the run met every operation, row, refusal and situation often enough, and no refusal that is not listed.
fn assert_met(tally: &Tally) {
    assert_eq!(tally.operations.len(), OPERATIONS, "every operation is made");
    let mut met: Vec<(String, u64)> = Vec::new();
    met.extend(tally.operations.iter().map(|(name, count)| ((*name).to_owned(), count.answered)));
    met.extend(Row::ALL.map(|row| (row.name().to_owned(), tally.rows.get(&row).copied().unwrap_or(0))));
    met.extend(REJECTIONS.map(|(name, stage, row)| {
        let count = tally.rejections.get(&(name, stage.refuses(row)));
        (format!("{name} {stage:?} {}", row.name()), count.copied().unwrap_or(0))
    }));
    met.extend(tally.situations.iter().map(|(situation, count)| ((*situation).to_owned(), *count)));
    let enough = cases(ENOUGH);
    // Keep the situations that were met too seldom.
    met.retain(|(_, count)| *count < u64::from(enough));
    assert!(met.is_empty(), "met fewer than {enough} times: {met:?}");
    for (name, refusal) in tally.rejections.keys() {
        let listed = REJECTIONS.contains(&(name, refusal.stage, refusal.row));
        assert!(listed, "{name} is not known to be refused with {refusal:?}");
    }
}

#[test]
fn mistaken_model_is_caught_by_a_short_list() {
    // A short run tries every third mistake.
    let step = if cases(1) == 1 { 3 } else { 1 };
    for mistake in Mistake::ALL.into_iter().step_by(step) {
        let driver = Driver {
            make: |settings: &Settings| Mistaken::new(settings, mistake),
            check: |_: &mut Mistaken| {},
            drain: |_: &mut Mistaken| {},
        };
        let divergence = driver.explore_from(1, 200).expect_err("the mistake shows in 200 lists");
        assert!(divergence.requests.len() <= 10, "{mistake:?}:\n{divergence}");
    }
}

/// R-WCH-18, as observed: five events of 1 MiB with a limit of 2 MiB are split, and shorter events are sent together.
#[test]
fn long_responses_are_fragmented() {
    const MIB: usize = 1024 * 1024;
    let put = |len: usize| {
        let put = PutRequest { key: b"a".to_vec(), value: vec![b'v'; len], ..PutRequest::default() };
        Request::Put(put)
    };
    let create = |fragment| {
        let create =
            WatchCreate { key: b"a".to_vec(), start_revision: 2, fragment, ..WatchCreate::default() };
        Request::WatchCreate(create)
    };
    let puts = [MIB; 5].into_iter().chain([7 * MIB / 10; 3]).map(put);
    let mut requests: Vec<Request> = puts.chain([true, false].map(create)).collect();
    requests.push(Request::WatchReceive { stream: 0 });
    engine().run(&Settings::default(), &requests).expect("the engine's responses equal the model's");
    let mut model = Model::new(Settings::default());
    let answers: Vec<_> = requests.iter().map(|request| model.call(request)).collect();
    let Some(Ok(Response::Watched(responses))) = answers.last() else { panic!("no responses: {answers:?}") };
    let of = |id: i64| -> Vec<(usize, bool)> {
        let sent: Vec<&WatchResponse> =
            responses.iter().filter(|response| response.watch_id == id && !response.created).collect();
        assert!(sent.iter().all(|response| response.revision == 9));
        sent.into_iter().map(|response| (response.events.len(), response.fragment)).collect()
    };
    assert_eq!(of(0), [(1, true), (1, true), (1, true), (1, true), (2, true), (2, false)]);
    assert_eq!(of(1), [(8, false)]);
}

/// Returns the responses of a stream, in short: the revisions of the events, and the revision of the header.
fn watched(model: &mut Model) -> Vec<String> {
    let Ok(Response::Watched(responses)) = model.call(&Request::WatchReceive { stream: 0 }) else {
        panic!("the stream exists");
    };
    let shown = responses.iter().map(|response| {
        let WatchResponse { revision, watch_id, .. } = response;
        match (response.created, response.canceled, response.compact_revision, &response.events[..]) {
            (true, false, 0, []) => format!("{watch_id} created at {revision}"),
            (false, true, 0, []) => format!("{watch_id} canceled at {revision}"),
            (false, true, compacted, []) => format!("{watch_id} compacted {compacted} at {revision}"),
            (false, false, 0, []) => format!("{watch_id} progress {revision}"),
            (false, false, 0, events) => {
                let events: Vec<_> = events.iter().map(|event| event.kv.mod_revision).collect();
                format!("{watch_id} {events:?} at {revision}")
            }
            _ => format!("{response:?}"),
        }
    });
    shown.collect()
}

fn watch(model: &mut Model, start_revision: i64, capacity: usize) {
    let create = WatchCreate { start_revision, capacity, range_end: vec![0], ..WatchCreate::default() };
    let create = WatchCreate { progress_notify: true, ..create };
    model.call(&Request::WatchCreate(create)).expect("a watch is accepted");
}

/// Expected values computed by hand, for behaviour that the specification leaves open.
#[test]
fn model_of_slow_watchers_matches_hand_computed_events() {
    let mut model = Model::new(Settings::default());
    watch(&mut model, 0, 2);
    watch(&mut model, 0, 1);
    watch(&mut model, 4, 1);
    for value in ["2", "3", "4", "5"] {
        put(&mut model, "a", value);
    }
    model.call(&Request::WatchProgress { stream: 0 }).expect("a request is accepted");
    compact(&mut model, 4);
    let created = ["0 created at 1", "1 created at 1", "2 created at 1"];
    let queued = ["0 [2] at 2", "1 [2] at 2", "0 [3] at 3", "2 [4] at 4"];
    let caught_up = ["0 [4, 5] at 5", "1 compacted 4 at 0", "2 [5] at 5"];
    assert_eq!(watched(&mut model), [&created[..], &queued, &caught_up].concat());

    model.call(&Request::WatchProgress { stream: 0 }).expect("a request is accepted");
    model.call(&Request::WatchCancel { stream: 0, id: 1 }).expect("a request is accepted");
    model.call(&Request::WatchCancel { stream: 0, id: 1 }).expect("a request is accepted");
    watch(&mut model, 5, 1);
    put(&mut model, "a", "6");
    let answers = ["1 canceled at 5", "3 created at 5", "3 [5] at 5"];
    assert_eq!(watched(&mut model), [&answers[..], &["0 [6] at 6", "2 [6] at 6", "3 [6] at 6"]].concat());
    // Watcher 1 was compacted at the first request, and is cancelled now.
    model.call(&Request::WatchProgress { stream: 0 }).expect("a request is accepted");
    assert_eq!(watched(&mut model), ["-1 progress 6"]);
}

/// A tick notifies no watcher that was sent events since the last tick, or that has unreceived responses.
#[test]
fn model_progress_ticks_match_hand_computed_events() {
    let mut model = Model::new(Settings { progress_interval_nanos: 1_000, ..Settings::default() });
    let pass = |model: &mut Model, nanos| {
        model.call(&Request::Advance { nanos }).expect("time passes");
        watched(model)
    };
    pass(&mut model, 300);
    watch(&mut model, 0, 1);
    watch(&mut model, 3, 1);
    assert_eq!(pass(&mut model, 999), ["0 created at 1", "1 created at 1"]);
    assert_eq!(pass(&mut model, 1), ["0 progress 1"]);
    put(&mut model, "a", "2");
    put(&mut model, "a", "3");
    assert_eq!(pass(&mut model, 999), ["0 [2] at 2", "1 [3] at 3", "0 [3] at 3"]);
    assert!(pass(&mut model, 1).is_empty());
    assert_eq!(pass(&mut model, 5_000), ["0 progress 3", "1 progress 3"]);
}

#[test]
fn equal_seeds_lead_to_equal_runs() {
    let driver = model_alone();
    let first = driver.explore_from(7, 40).expect("a model agrees with itself");
    let second = driver.explore_from(7, 40).expect("a model agrees with itself");
    assert_eq!(first, second);
    let other = driver.explore_from(8, 40).expect("a model agrees with itself");
    assert_ne!(first, other);
}

/// The engine, which checks its invariants after every request.
fn engine()
-> Driver<impl Fn(&Settings) -> EngineSubject, impl Fn(&mut EngineSubject), impl Fn(&mut EngineSubject)> {
    Driver {
        make: EngineSubject::new,
        check: |engine: &mut EngineSubject| engine.check_invariants(),
        drain: EngineSubject::drain,
    }
}

/// The model, compared with itself.
fn model_alone() -> Driver<impl Fn(&Settings) -> Model, impl Fn(&mut Model), impl Fn(&mut Model)> {
    Driver {
        make: |settings: &Settings| Model::new(settings.clone()),
        check: |_: &mut Model| {},
        drain: |_: &mut Model| {},
    }
}

fn put(model: &mut Model, key: &str, value: &str) {
    let put = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    model.call(&Request::Put(put)).expect("a plain put succeeds");
}

fn hash(model: &mut Model, revision: i64) -> (u32, i64) {
    match model.call(&Request::HashKv { revision }) {
        Ok(Response::HashKv { hash, compact_revision, .. }) => (hash, compact_revision),
        other => panic!("no hash of {revision}: {other:?}"),
    }
}

fn compact(model: &mut Model, revision: i64) {
    model.call(&Request::Compact { revision, physical: false }).expect("the revision can be compacted");
}

/// Appendix A1 of the specification: hashes observed on a running etcd.
#[test]
fn model_hashes_match_running_etcd() {
    let mut model = Model::new(Settings::default());
    assert_eq!(hash(&mut model, 0), (1_084_519_789, -1));
    put(&mut model, "a", "1");
    let op = |key: &str, value: &str| {
        Op::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
    };
    let delete = |key: &str| DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
    let success = vec![op("a", "2"), op("b", "x"), Op::DeleteRange(delete("c"))];
    model.call(&Request::Txn(TxnRequest { success, ..TxnRequest::default() })).expect("a plain txn succeeds");
    model.call(&Request::DeleteRange(delete("a"))).expect("a plain delete succeeds");
    put(&mut model, "b", "");
    let expected = [3_245_022_065, 1_084_519_789, 2_587_454_935, 2_274_636_671, 1_640_732_524, 3_245_022_065];
    for (revision, hashed) in expected.into_iter().enumerate() {
        assert_eq!(hash(&mut model, revision as i64), (hashed, -1), "revision {revision}");
    }
    compact(&mut model, 3);
    assert_eq!(hash(&mut model, 4), (1_104_304_264, 3));
    assert_eq!(hash(&mut model, 5), (4_146_372_551, 3));
    compact(&mut model, 4);
    assert_eq!(hash(&mut model, 5), (2_478_532_398, 4));
}

/// Returns the key of the put with this index in etcd's hash tests.
fn name(index: i64) -> &'static str {
    const NAMES: [&str; 7] = ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"];
    if index % 142 == 30 {
        "zenek"
    } else if index % 71 == 30 {
        "xavery"
    } else {
        NAMES[(index % 7) as usize]
    }
}

/// Returns the (hash, compact revision, revision) of etcd's hash tests: batches of puts, each followed by a hash and a
/// compaction. The compaction is half a batch after the first number of the batch, or at the current revision.
fn hashes_of_batches(at_current: bool) -> Vec<(u32, i64, i64)> {
    const STEP: i64 = 71;
    const LAST: i64 = 1210;
    let mut model = Model::new(Settings::default());
    let mut hashes = Vec::new();
    let mut first = 0;
    loop {
        let size = if first < LAST { STEP } else { LAST };
        for index in first..=first + size {
            put(&mut model, name(index), &index.to_string());
        }
        let at = if at_current { model.current() } else { first + size / 2 };
        let (hashed, compacted) = hash(&mut model, at);
        hashes.push((hashed, compacted, at));
        compact(&mut model, at);
        if size == LAST {
            return hashes;
        }
        first += STEP;
    }
}

/// Appendix A2: the hashes in etcd's own tests.
#[test]
fn model_hashes_match_etcd_tests() {
    let hashes = hashes_of_batches(false);
    let expected = [
        (4_082_599_214, -1, 35),
        (2_279_933_401, 35, 106),
        (3_284_231_217, 106, 177),
        (126_286_495, 177, 248),
        (900_108_730, 248, 319),
        (2_475_485_232, 319, 390),
    ];
    assert_eq!(hashes[..6], expected);
    assert_eq!(hashes.last(), Some(&(724_436_716, 1242, 1883)));
    let hashes = hashes_of_batches(true);
    assert_eq!(hashes.first(), Some(&(1_913_897_190, -1, 73)));
    assert_eq!(hashes.last(), Some(&(2_017_735_779, 1297, 2508)));
}
