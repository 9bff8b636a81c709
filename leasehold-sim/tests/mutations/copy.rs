//! The copy of the workspace with the bugs. It is below the build folder, so the workspace contains no trace of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::bugs::{BUGS, Bug};

/// The source of the switch. `BUG` in a replacement becomes a call of `is`.
const SWITCH: &str = r#"//! The bug that is switched on in this thread.

use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Switches this bug on for the engines of this thread, and every other bug off.
pub fn plant(name: Option<&'static str>) {
    PLANTED.set(name);
}

pub(crate) fn is(name: &str) -> bool {
    PLANTED.get() == Some(name)
}
"#;

/// Folders that the copy does not need.
const LEFT_OUT: [&str; 4] = [".git", "target", "fuzz", "peers"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Each bug's code occurs once in its file, so a change of that code fails here.
#[test]
fn planted_bugs_match_the_code_once() {
    for bug in &BUGS {
        let code = fs::read_to_string(root().join(bug.file)).expect("the file of a bug can be read");
        assert_eq!(code.matches(bug.right).count(), 1, "{} in {}", bug.name, bug.file);
        assert!(bug.wrong.contains("BUG"), "the replacement of {} contains `BUG`", bug.name);
    }
}

/// Builds a copy with all bugs, each behind its switch, and runs `explore.rs` in it. This takes minutes.
#[test]
#[ignore = "slow: it builds the workspace once more; .ci/run runs it"]
fn checkers_find_every_planted_bug() {
    let folder = root().join("target/planted_sim");
    let copy = folder.join("tree");
    if copy.exists() {
        fs::remove_dir_all(&copy).expect("an older copy can be removed");
    }
    copy_folder(&root(), &copy);
    BUGS.iter().for_each(|bug| plant(bug, &copy));
    fs::write(copy.join("src/planted.rs"), SWITCH).expect("the copy can be written");
    let face = copy.join("src/lib.rs");
    let lib = fs::read_to_string(&face).expect("the copy can be read");
    fs::write(face, lib + "\n#[doc(hidden)]\npub mod planted;\n").expect("the copy can be written");

    let cargo = env::var_os("CARGO").expect("cargo sets `CARGO` for a test");
    let status = Command::new(cargo)
        .args(["test", "--package", "leasehold-sim", "--test", "mutations", "--target-dir"])
        .arg(&folder)
        .args(["--", "--nocapture"])
        .env("RUSTFLAGS", "--cfg planted_bugs")
        .current_dir(&copy)
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "the checkers find every planted bug");
}

fn plant(bug: &Bug, copy: &Path) {
    let file = copy.join(bug.file);
    let code = fs::read_to_string(&file).expect("the copy can be read");
    let switch = format!("crate::planted::is(\"{}\")", bug.name);
    fs::write(file, code.replacen(bug.right, &bug.wrong.replace("BUG", &switch), 1))
        .expect("the copy can be written");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be listed") {
        let path: PathBuf = entry.expect("an entry can be read").path();
        let name = path.file_name().expect("an entry has a name");
        let target = to.join(name);
        if path.is_dir() {
            if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
                copy_folder(&path, &target);
            }
        } else {
            fs::copy(&path, &target).expect("a file can be copied");
        }
    }
}
