//! The structure of `leasehold-etcd`: its access to the outside, and its test binaries.

use super::architecture::{Source, assert_none, banned_names, not_listed, sources, undeclared};

/// Words for access to the outside that the adapter may not use, except in these files. A user's server opens the sockets.
const ADAPTER_DOORS: [(&str, &[&str]); 8] = [
    ("Instant", &["leasehold-etcd/src/clock.rs"]),
    ("SystemTime", &[]),
    ("thread", &[]),
    ("net", &[]),
    ("fs", &[]),
    ("RandomState", &[]),
    ("HashMap", &[]),
    ("HashSet", &[]),
];

#[test]
fn adapter_opens_no_socket_and_starts_no_thread() {
    let used = |source: &Source| banned_names(source, &not_listed(&ADAPTER_DOORS, source));
    assert_none(sources("leasehold-etcd/src").iter().flat_map(used));
    let planted = |code: &str| used(&Source::new("leasehold-etcd/src/planted.rs", code));
    for door in ["use tokio::net::TcpListener;", "std::thread::spawn(f)", "let start = Instant::now();"] {
        assert_eq!(planted(door).len(), 1, "{door}");
    }
    assert_eq!(planted("let network = \"net\"; // thread"), [""; 0]);
}

/// A file without a `mod` declaration is not compiled, and its tests do not run.
#[test]
fn every_file_of_an_adapters_test_binary_is_a_module() {
    // The paths as they are in the package.
    let mut of_adapter = sources("leasehold-etcd/tests");
    for file in &mut of_adapter {
        file.path = file.path.trim_start_matches("leasehold-etcd/").to_owned();
    }
    assert_none(undeclared(&of_adapter));
}
