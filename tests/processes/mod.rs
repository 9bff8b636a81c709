//! The same program in a process of its own, whose traces are compared with each other.

use std::env;
use std::process::Command;

/// Between these the process prints what happened.
const BEGIN: &str = "<<<trace\n";
const END: &str = "trace>>>";

/// Prints a trace for the process that started this one.
pub(crate) fn print_trace(trace: &str) {
    print!("{BEGIN}{trace}{END}");
}

/// Starts this program's ignored test `run_here` anew, with nothing of this environment but what is given, and gives the trace that
/// it prints.
pub(crate) fn run_elsewhere(environment: &[(&str, &str)]) -> String {
    let output = Command::new(env::current_exe().expect("a program knows where it is"))
        .args(["run_here", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("a program can be started twice");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("a trace is text");
    let (_, rest) = printed.split_once(BEGIN).expect("the trace begins");
    rest.split_once(END).expect("the trace ends").0.to_owned()
}
