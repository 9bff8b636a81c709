//! Replays of recorded conversations with a real etcd, which `conformance/README.md` describes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use leasehold_testkit::adapter::engine::EngineSubject;
use leasehold_testkit::adapter::seam::ClientSubject;
use leasehold_testkit::adapter::store::StoreSubject;
use leasehold_testkit::model::Model;
use leasehold_testkit::replay::{Outcome, replay};
use leasehold_testkit::trace::{self, Case, Expected, Feature, Problem};
use leasehold_testkit::wire::{Failure, Request, Response, Settings, Subject};

/// The number of recorded conversations.
const CASES: usize = 177;

/// Cases that together have every replayed operation and every kind of response.
const ALTERED: [&str; 22] = [
    "compact-errors",
    "delete-prev-kv",
    "lease-expiry-without-keys",
    "lease-grant-ttl-limits",
    "lease-keep-alive",
    "lease-list",
    "lease-reattach",
    "lease-revoke",
    "lease-server-id",
    "lease-time-to-live",
    "put-prev-kv",
    "range-binary-keys",
    "range-limit-more-count",
    "txn-mixed-ops",
    "txn-nested-read-only",
    "watch-bad-range",
    "watch-cancel",
    "watch-compacted-then-cancel",
    "watch-ids-per-stream",
    "watch-lease-revoke",
    "watch-prev-kv",
    "watch-progress",
];

#[test]
fn store_matches_recorded_conversations() {
    replay_all(|| StoreSubject::new(&Settings::default()));
}

#[test]
fn client_matches_recorded_conversations() {
    replay_all(|| ClientSubject::of_store(&Settings::default()));
}

#[test]
fn engine_matches_recorded_conversations_and_keeps_invariants() {
    replay_all(|| Checked(EngineSubject::new(&Settings::default())));
}

#[test]
fn model_matches_recorded_conversations() {
    replay_all(|| Model::new(Settings::default()));
}

/// An engine that checks its invariants after every request.
struct Checked(EngineSubject);

impl Subject for Checked {
    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        let answer = self.0.call(request);
        self.0.check_invariants();
        answer
    }
}

/// Replays every case, each with a new subject.
fn replay_all<S: Subject>(new: impl Fn() -> S) {
    let mut failed = Vec::new();
    let (mut passed, mut skipped) = (0, 0);
    let offers_services = new().services().is_some();
    for case in cases() {
        match replay(&case, &mut new()) {
            Outcome::Passed { steps, .. } => {
                assert_eq!(steps, case.steps.len());
                passed += 1;
            }
            Outcome::Skipped { .. } => skipped += 1,
            Outcome::Failed(mismatch) => failed.push(format!("{}: {mismatch}", case.name)),
        }
    }
    assert!(failed.is_empty(), "{} of {CASES} cases fail\n{}", failed.len(), failed.join("\n"));
    let expected = if offers_services { 0 } else { needing_services().len() };
    assert_eq!((passed + skipped, skipped), (CASES, expected));
}

/// A subject without the two services skips exactly the cases that need them.
#[test]
fn cases_that_need_services_are_known() {
    let needs_one = |case: &Case| !case.needs().is_empty();
    let needing: BTreeSet<_> = cases().into_iter().filter(needs_one).map(|case| case.name).collect();
    assert_eq!(needing, needing_services());

    assert_eq!(load("watch-basic").needs(), BTreeSet::new());
    assert_eq!(load("lock-watch").needs(), BTreeSet::from([Feature::Lock]));
    // The waits and cancellations of this case belong to campaigns.
    assert_eq!(load("election-candidate-cancelled").needs(), BTreeSet::from([Feature::Election]));
}

/// Returns the names of the cases with an operation of the services, found without the parser.
fn needing_services() -> BTreeSet<String> {
    const OPERATIONS: [&str; 7] = ["lock", "unlock", "campaign", "proclaim", "leader", "resign", "observe"];
    let has_one = |text: &str| OPERATIONS.iter().any(|op| text.contains(&format!("\"op\":\"{op}")));
    let named = paths().into_iter().filter(|path| has_one(&read(path)));
    named.map(|path| path.file_stem().expect("a file has a name").to_string_lossy().into_owned()).collect()
}

#[test]
fn replay_with_any_altered_field_fails() {
    let mut altered = 0;
    for case in ALTERED.map(load) {
        for (index, step) in case.steps.iter().enumerate() {
            for (field, expected) in alterations_of(&step.expected) {
                let mut wrong = case.clone();
                wrong.steps[index].expected = expected;
                let at = format!("{} step {} with another {field}", case.name, index + 1);
                let outcome = replay(&wrong, &mut Model::new(Settings::default()));
                let Outcome::Failed(mismatch) = outcome else { panic!("{at} is not noticed: {outcome:?}") };
                assert_eq!(mismatch.step, index + 1, "{at}: {mismatch}");
                altered += 1;
            }
        }
    }
    assert!(altered > 1000, "only {altered} alterations were tried");
}

/// Returns every way to make a recorded outcome wrong in one place.
fn alterations_of(expected: &Expected) -> Vec<(String, Expected)> {
    match expected {
        Expected::Answer(answer) => {
            let mut found = Vec::new();
            alter(answer, "resp", &mut |field, altered| found.push((field, Expected::Answer(altered))));
            found.push(("kind".into(), Expected::Error(Failure::new("Unknown", "no"))));
            found
        }
        Expected::Error(Failure { code, message }) => vec![
            ("err.code".into(), Expected::Error(Failure::new(&format!("{code}x"), message))),
            ("err.message".into(), Expected::Error(Failure::new(code, &format!("{message}.")))),
            ("kind".into(), Expected::Answer(json!({}))),
        ],
        Expected::Later => vec![],
    }
}

/// Calls `found` with each field, and with an answer in which that field alone is wrong, missing or duplicated.
fn alter(json: &Json, field: &str, found: &mut dyn FnMut(String, Json)) {
    match json {
        Json::Object(members) if is_value(json) => {
            // A range of seconds beyond the recorded one, or bytes that occur nowhere.
            let beyond =
                members.get("le").and_then(Json::as_i64).map(|le| json!({ "ge": le + 1, "le": le + 9 }));
            found(field.into(), beyond.unwrap_or_else(|| "another".into()));
        }
        Json::Object(members) => {
            for (name, member) in members {
                let at = format!("{field}.{name}");
                alter(member, &at, &mut |field, altered| {
                    let mut members = members.clone();
                    members[name] = altered;
                    found(field, Json::Object(members));
                });
                let mut without = members.clone();
                without.shift_remove(name);
                found(at, Json::Object(without));
            }
            let mut with = members.clone();
            with.insert("other".into(), Json::Null);
            found(format!("{field}.other"), Json::Object(with));
        }
        Json::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                alter(element, &format!("{field}[{index}]"), &mut |field, altered| {
                    let mut elements = elements.clone();
                    elements[index] = altered;
                    found(field, Json::Array(elements));
                });
            }
            if let [shorter @ .., last] = &elements[..] {
                found(field.into(), shorter.into());
                found(field.into(), elements.iter().chain([last]).cloned().collect());
            } else {
                found(field.into(), json!([{}]));
            }
        }
        Json::Null => found(field.into(), json!({})),
        Json::Bool(flag) => found(field.into(), (!flag).into()),
        Json::Number(number) => {
            found(field.into(), number.as_i64().map(|number| number.wrapping_add(1)).into())
        }
        Json::String(text) => found(field.into(), format!("{text}x").into()),
    }
}

/// Returns whether the object is a form of bytes or a range of seconds rather than a message.
fn is_value(json: &Json) -> bool {
    ["hex", "tmpl", "ge"].iter().any(|form| json.get(form).is_some())
}

#[test]
fn replay_reports_first_mismatch_with_both_outcomes() {
    let case = step_by_step(&[
        r#""op":"put","req":{"key":"a","value":"1"},"resp":{"header":{"revision":2},"prev_kv":null}"#,
        r#""op":"range","req":{"key":"a"},"resp":{"header":{"revision":2},"kvs":[{"key":"a","create_revision":2,"mod_revision":2,"version":7,"value":"1","lease":0}],"more":false,"count":1}"#,
    ]);
    let case = case.expect("the lines are a trace");
    let Outcome::Failed(mismatch) = replay(&case, &mut Model::new(Settings::default())) else {
        panic!("version 7 is accepted");
    };
    assert_eq!((mismatch.step, &*mismatch.op, &*mismatch.field), (2, "range", "resp.kvs[0].version"));
    assert_eq!(mismatch.what, "1 instead of 7");
    assert!(mismatch.expected.contains(r#""version":7,"value":"1""#), "{}", mismatch.expected);
    assert_eq!(mismatch.got, mismatch.expected.replace(r#""version":7"#, r#""version":1"#));
}

#[test]
fn mismatch_shortens_long_values() {
    let case = step_by_step(&[
        r#""op":"put","req":{"key":"a","value":{"repeat":{"hex":"78","count":100000}}},"resp":{"header":{"revision":2},"prev_kv":null}"#,
        r#""op":"range","req":{"key":"a"},"err":{"code":"Unknown","message":"no"}"#,
    ]);
    let case = case.expect("the lines are a trace");
    let Outcome::Failed(mismatch) = replay(&case, &mut Model::new(Settings::default())) else {
        panic!("a missing error is accepted");
    };
    assert!(mismatch.got.contains(r#""value":{"repeat":{"hex":"78","count":100000}}"#), "{}", mismatch.got);
}

#[test]
fn leases_are_compared_in_order_unless_unordered() {
    let grant = |id| {
        let answer = format!(r#"{{"header":{{"revision":1}},"ID":{id},"TTL":10,"error":""}}"#);
        format!(r#""op":"lease_grant","req":{{"TTL":10,"ID":{id}}},"resp":{answer}"#)
    };
    let replayed = |leases: &str, unordered: bool| {
        let answer = format!(r#"{{"header":{{"revision":1}},"leases":{leases}}}"#);
        let list = format!(r#""op":"lease_leases","req":{{}},"unordered":{unordered},"resp":{answer}"#);
        let case = step_by_step(&[&grant(5), &grant(6), &list]).expect("the lines are a trace");
        matches!(replay(&case, &mut Model::new(Settings::default())), Outcome::Passed { .. })
    };
    assert!(replayed(r#"[{"ID":5},{"ID":6}]"#, false));
    assert!(!replayed(r#"[{"ID":6},{"ID":5}]"#, false));
    assert!(replayed(r#"[{"ID":6},{"ID":5}]"#, true));
    assert!(replayed(r#"[{"ID":"$lease1"},{"ID":5}]"#, true));
    assert!(!replayed(r#"[{"ID":6}]"#, true));
    assert!(!replayed(r#"[{"ID":6},{"ID":6}]"#, true));
    assert!(!replayed(r#"[{"ID":6},{"ID":5},{"ID":5}]"#, true));
    assert!(!replayed(r#"[{"ID":6,"TTL":10},{"ID":5}]"#, true));
}

#[test]
fn symbol_is_bound_by_first_answer() {
    let put = |key: &str| {
        format!(r#""op":"put","req":{{"key":{key}}},"resp":{{"header":{{"revision":2}},"prev_kv":null}}"#)
    };
    let kept_alive = |id: &str| {
        let answer = format!(r#"{{"header":{{"revision":2}},"ID":{id},"TTL":0}}"#);
        format!(r#""op":"lease_keep_alive","req":{{"ID":{id}}},"resp":{answer}"#)
    };
    let read = |key: &str| {
        let kv = format!(
            r#"{{"key":{key},"create_revision":2,"mod_revision":2,"version":1,"value":"","lease":0}}"#
        );
        let answer = format!(r#"{{"header":{{"revision":2}},"kvs":[{kv}],"more":false,"count":1}}"#);
        format!(r#""op":"range","req":{{"key":{{"hex":"00"}},"range_end":{{"hex":"00"}}}},"resp":{answer}"#)
    };
    let replayed = |steps: &[String]| {
        let steps: Vec<_> = steps.iter().map(String::as_str).collect();
        replay(&step_by_step(&steps).expect("the lines are a trace"), &mut Model::new(Settings::default()))
    };
    let passes = |steps: &[String]| matches!(replayed(steps), Outcome::Passed { .. });

    let (bound, symbol) = (r#"{"tmpl":"L/<$lease1>"}"#, r#""$lease1""#);
    assert!(passes(&[
        put(r#""L/ff""#),
        read(bound),
        read(r#""L/ff""#),
        kept_alive(symbol),
        kept_alive("255")
    ]));
    assert!(!passes(&[put(r#""L/00ff""#), read(bound)]));
    assert!(!passes(&[put(r#""L/-ff""#), read(bound)]));
    assert!(!passes(&[put(r#""L/ff/""#), read(bound)]));
    assert!(!passes(&[put(r#""M/ff""#), read(bound)]));
    assert!(!passes(&[put(r#""L/ff""#), read(bound), read(r#"{"tmpl":"L/<$lease2>f"}"#)]));

    let mismatch =
        r#""op":"lease_keep_alive","req":{"ID":254},"resp":{"header":{"revision":2},"ID":"$lease1","TTL":0}"#;
    let Outcome::Failed(mismatch) = replayed(&[put(r#""L/ff""#), read(bound), mismatch.into()]) else {
        panic!("254 is accepted as the 255 of $lease1");
    };
    assert_eq!((&*mismatch.field, &*mismatch.what), ("resp.ID", r#"254 instead of "$lease1""#));
}

#[test]
fn malformed_trace_is_refused_with_its_line() {
    let refused =
        |step: &str| step_by_step(&[r#""op":"advance","req":{"ms":1},"resp":{}"#, step]).unwrap_err();
    assert!(matches!(refused(r#""op":"range","req":{"key":"a""#), (3, Problem::NotJson(_))));
    assert_eq!(
        refused(r#""op":"defragment","req":{},"resp":{}"#),
        (3, Problem::UnknownOperation("defragment".into()))
    );
    assert_eq!(
        refused(r#""op":"range","req":{"key":"a","rang_end":"b"},"resp":{}"#),
        (3, Problem::UnknownField("req.rang_end".into()))
    );
    assert_eq!(refused(r#""op":"range","req":{"key":"a"}"#), (3, Problem::NotOneOutcome));
    assert_eq!(refused(r#""op":"await","handle":"h","resp":{}"#), (3, Problem::UnknownHandle("h".into())));
    for wrong in [
        r#"{"key":{"hex":"0"}}"#,
        r#"{"key":{"hex":"0g"}}"#,
        r#"{"key":7}"#,
        r#"{"limit":1.0}"#,
        r#"{"limit":9223372036854775808}"#,
        r#"{"sort_order":"UP"}"#,
        r#"{"keys_only":1}"#,
    ] {
        let problem = refused(&format!(r#""op":"range","req":{wrong},"resp":{{}}"#));
        assert!(matches!(problem, (3, Problem::NotA { .. })), "{wrong}: {problem:?}");
    }
    let filter = refused(r#""op":"watch_create","stream":"w","req":{"filters":["PUT"]},"resp":{}"#);
    assert!(matches!(filter, (3, Problem::NotA { .. })), "{filter:?}");
    for step in
        [r#""op":"watch_progress","req":{},"resp":null"#, r#""op":"put","stream":"w","req":{},"resp":{}"#]
    {
        assert_eq!(refused(step), (3, Problem::Misplaced("stream")));
    }
    let unbound = refused(r#""op":"put","req":{"key":"a","lease":"$lease1"},"resp":{}"#);
    assert!(matches!(unbound, (3, Problem::UnboundSymbol { .. })), "{unbound:?}");
    assert_eq!(step_by_step(&[]).unwrap_err(), (1, Problem::Empty));

    let missing = Case::load(Path::new("no-such-trace.jsonl")).unwrap_err();
    assert!(missing.to_string().starts_with("no-such-trace.jsonl:0: cannot be read: "), "{missing}");
}

/// Parses a trace of steps that are written without their number and client.
fn step_by_step(steps: &[&str]) -> Result<Case, (usize, Problem)> {
    let header = r#"{"case":"written-here","title":"","source":"","format":1,"tags":[]}"#.to_owned();
    let numbered =
        steps.iter().zip(1..).map(|(step, number)| format!(r#"{{"step":{number},"client":"a",{step}}}"#));
    let lines: Vec<_> = [header].into_iter().chain(numbered).collect();
    Case::parse(&lines.join("\n"))
}

fn cases() -> Vec<Case> {
    paths().iter().map(|path| Case::load(path).unwrap_or_else(|error| panic!("{error}"))).collect()
}

fn load(name: &str) -> Case {
    let path = folder().join(name).with_extension("jsonl");
    Case::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// The files of all cases. They are in the repository and not in the published package.
fn paths() -> Vec<PathBuf> {
    let paths = trace::files(&folder()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(paths.len(), CASES);
    paths
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
