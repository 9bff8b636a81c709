//! Starts this program again for one of its tests.

use std::env;
use std::process::{Command, Output};

/// Set in a process that [`has_run_alone`] started.
const ALONE: &str = "LEASEHOLD_TEST_ALONE";

/// Marks the start of a trace in the output of a process. [`END`] marks its end.
const BEGIN: &str = "<<<trace\n";
const END: &str = "trace>>>";

/// Runs a test in a process that runs no other test, and returns true.
///
/// In that process it returns false, and the caller runs the test's body. `test` is the name that `cargo test` prints.
pub(crate) fn has_run_alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return false;
    }
    let output = output(this_program(test).env(ALONE, "1"));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "no test has the name {test}:\n{printed}");
    true
}

/// Prints a trace for the process that started this one.
pub(crate) fn print_trace(trace: &str) {
    print!("{BEGIN}{trace}{END}");
}

/// Runs an ignored test in a process with only this environment, and returns the trace that the process prints.
pub(crate) fn run_elsewhere(test: &str, environment: &[(&str, &str)]) -> String {
    let command = &mut this_program(test);
    let output = output(command.arg("--ignored").env_clear().envs(environment.iter().copied()));
    let printed = String::from_utf8(output.stdout).expect("a trace is text");
    let (_, rest) = printed.split_once(BEGIN).expect("the output contains the start of a trace");
    rest.split_once(END).expect("the output contains the end of a trace").0.to_owned()
}

fn this_program(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the system knows the path of this program"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command
}

fn output(command: &mut Command) -> Output {
    let output = command.output().expect("this program can be started");
    let printed = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{}", printed.join("\n"));
    output
}
