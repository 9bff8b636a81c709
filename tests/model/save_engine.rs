//! Engines that are saved and loaded between random commands, compared with the model.

use leasehold::clock::Timestamp;
use leasehold::engine::{Engine, EngineConfig};
use leasehold::snapshot::LoadOptions;
use leasehold::{Compact, Delete, Grant, KeyRange, Limits, Put, Txn, TxnOp};
use leasehold_testkit::adapter::engine::EngineSubject;
use leasehold_testkit::cases::cases;
use leasehold_testkit::helpers::secs;
use leasehold_testkit::lockstep::Driver;
use leasehold_testkit::model::Model;
use leasehold_testkit::strategy::{self, Present};
use leasehold_testkit::wire::{Failure, Kv, Request, Response, Settings, Subject};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// An engine that is saved and loaded after each command.
struct Reloaded {
    subject: EngineSubject,
    settings: Settings,
}

impl Subject for Reloaded {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        self.subject.call(request)
    }
}

/// The model, which has no saves, checks every response of an engine that is loaded after each command. Loading without
/// standing keep-alives has the effect of pausing each of them first (R-LSE-12).
#[test]
fn engine_loaded_after_each_command_matches_model() {
    let driver = Driver {
        make: |settings: &Settings| Reloaded {
            subject: EngineSubject::new(settings),
            settings: settings.clone(),
        },
        check: |engine: &mut Reloaded| {
            engine.subject.drain();
            let loaded = engine.subject.reloaded(&engine.settings, engine.subject.now());
            loaded.check_invariants();
            assert_eq!(loaded.state_hash(), engine.subject.state_hash());
            let ordinary = engine.subject.loaded(&engine.settings, LoadOptions::new(), engine.subject.now());
            ordinary.check_invariants();
            // The saved engine reaches the state of a load without standing keep-alives by pausing each of them.
            engine.subject.pause_all();
            engine.subject.drain();
            assert_eq!(ordinary.state_hash(), engine.subject.state_hash());
            engine.subject = loaded;
        },
        drain: |engine: &mut Reloaded| engine.subject.drain(),
    };
    let lists = strategy::requests_without_watches();
    driver.explore_lists(11, 60, &lists).unwrap_or_else(|failure| panic!("{failure}"));
}

/// The engine is loaded at another time. Later requests and commands return equal responses from both engines.
#[test]
fn loaded_engine_matches_saved_engine_at_any_time() {
    let lists =
        (strategy::settings(), strategy::requests_without_watches(), strategy::requests_without_watches());
    let nows =
        prop_oneof![Just(0_u64), 0..5_000_000_000_u64, any::<u32>().prop_map(|now| u64::from(now) << 24)];
    let config = Config { cases: cases(20), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let verdict = runner.run(&(lists, nows), |((mut settings, before, after), now)| {
        // Unreclaimed bytes count against a quota and are not saved.
        settings.quota_bytes = None;
        let mut model = Model::new(settings.clone());
        let mut saved = EngineSubject::new(&settings);
        for request in &before {
            let request = real(request, &settings, &model);
            prop_assert_eq!(model.call(&request).is_ok(), saved.call(&request).is_ok());
        }
        let mut loaded = saved.reloaded(&settings, Timestamp::from_nanos(now));
        loaded.check_invariants();
        assert_eq!(saved.reloaded(&settings, saved.now()).state_hash(), saved.state_hash());
        saved.drain();
        let (compacted, current) = (model.compacted(), model.current());
        let mut questions = vec![Request::Status, Request::LeaseLeases, Request::Events { from: compacted }];
        questions.extend((compacted + 1..=current).map(|revision| Request::HashKv { revision }));
        questions.extend(
            (compacted.max(1)..=current).map(|revision| Request::Range(strategy::everything_at(revision))),
        );
        questions.extend(strategy::LEASES.map(|id| Request::LeaseTimeToLive { id, keys: true }));
        for question in &questions {
            prop_assert_eq!(loaded.call(question), saved.call(question), "{:?}", question);
        }
        for request in &after {
            let request = real(request, &settings, &model);
            let expected = model.call(&request);
            for subject in [&mut saved, &mut loaded] {
                prop_assert_eq!(&subject.call(&request), &expected, "{:?}", request);
                subject.drain();
            }
        }
        loaded.check_invariants();
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Resolves a request against the present state of the model.
fn real(request: &Request, settings: &Settings, model: &Model) -> Request {
    let request = strategy::resolve(request, &Present::of(model));
    strategy::without_doubtful_size(request, settings.max_request_bytes)
}

/// Large tables are loaded in the layout in which puts would have built them.
#[test]
fn engine_with_many_keys_is_equal_after_loading() {
    let config = EngineConfig { hash_seed: 3, ..EngineConfig::default() };
    let mut engine = Engine::new(config, Timestamp::ORIGIN);
    let lease = engine.grant(&Grant::new(secs(9))).unwrap().id();
    for n in 0..9_000_u32 {
        let put = Put::new(format!("key/{}", n % 5_000), n.to_string());
        engine.put(&if n % 3 == 0 { put.lease(lease) } else { put }).unwrap();
    }
    engine.compact(&Compact::new(7_000)).unwrap();
    while engine.is_reclaiming() {
        engine.reclaim();
    }
    let mut saved = Vec::new();
    leasehold::snapshot::save(&engine, &mut saved).unwrap();
    let other = EngineConfig { hash_seed: 4, ..config };
    let mut loaded = leasehold::snapshot::load(other, LoadOptions::new(), engine.now(), &saved[..]).unwrap();
    loaded.check_invariants();
    assert_eq!(loaded.state_hash(), engine.state_hash());
    assert_eq!(loaded.status(), engine.status());
    for engine in [&mut engine, &mut loaded] {
        engine.advance(Timestamp::ORIGIN + secs(10));
        engine.check_invariants();
    }
    assert_eq!(loaded.state_hash(), engine.state_hash());
}

/// A compaction drops a tombstone inside revision 3, and a save omits it. A second compaction does not reclaim that revision
/// at once, so history still has the gap.
#[test]
fn gap_of_loaded_revision_is_valid_until_reclaimed() {
    let limits = Limits { max_txn_ops: 1000, ..Limits::default() };
    let config = EngineConfig { limits, ..EngineConfig::default() };
    let mut engine = Engine::new(config, Timestamp::ORIGIN);
    engine.put(&Put::new("z", "1")).unwrap();
    let nest = |op: TxnOp| TxnOp::from(Txn::new().and_then([op]));
    let puts = (0..300).map(|n| TxnOp::put(format!("key/{n}"), "1"));
    let replaced = [nest(Delete::range(KeyRange::from_key("z")).into()), nest(TxnOp::put("z", "2"))];
    engine.txn(&Txn::new().and_then(puts.chain(replaced))).unwrap();
    engine.compact(&Compact::new(3)).unwrap();
    let mut saved = Vec::new();
    leasehold::snapshot::save(&engine, &mut saved).unwrap();
    let mut loaded =
        leasehold::snapshot::load(config, LoadOptions::new(), Timestamp::ORIGIN, &saved[..]).unwrap();
    loaded.put(&Put::new("z", "3")).unwrap();
    loaded.compact(&Compact::new(4)).unwrap();
    assert!(loaded.is_reclaiming());
    loaded.check_invariants();
}

/// A bump between random commands keeps the latest state and the invariants, and its result can be saved.
#[test]
fn bumped_engine_keeps_invariants_under_random_commands() {
    let lists =
        (strategy::settings(), strategy::requests_without_watches(), strategy::requests_without_watches());
    let config = Config { cases: cases(20), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[8; 32]));
    let verdict = runner.run(&(lists, 1..9_u64), |((settings, before, after), by)| {
        let mut model = Model::new(settings.clone());
        let mut saved = EngineSubject::new(&settings);
        for request in &before {
            let request = real(request, &settings, &model);
            prop_assert_eq!(model.call(&request).is_ok(), saved.call(&request).is_ok());
        }
        let options = LoadOptions::new().keep_standing().bump_revision(by);
        let mut bumped = saved.loaded(&settings, options, saved.now());
        bumped.check_invariants();
        let current = model.current() + by as i64;
        prop_assert_eq!(pairs_at(&mut bumped, current), pairs_at(&mut saved, model.current()));
        for revision in model.current()..current {
            let read = bumped.call(&Request::Range(strategy::everything_at(revision)));
            prop_assert!(read.is_err(), "a revision before the bump is compacted: {}", revision);
        }
        for request in &after {
            drop(bumped.call(&real(request, &settings, &model)));
            bumped.check_invariants();
            bumped.drain();
            prop_assert_eq!(bumped.reloaded(&settings, bumped.now()).state_hash(), bumped.state_hash());
        }
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
}

fn pairs_at(subject: &mut EngineSubject, revision: i64) -> Vec<Kv> {
    match subject.call(&Request::Range(strategy::everything_at(revision))) {
        Ok(Response::Range(response)) => response.kvs,
        other => panic!("the current revision can be read: {other:?}"),
    }
}
