//! The programs of README.md, compiled and run as a reader pastes them into a new crate. rustdoc would wrap a block without
//! `main` in a function. The program for `leasehold-etcd` is compiled by that crate, because it needs `protoc`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns the text of each block of Rust code.
fn programs(markdown: &str) -> Vec<String> {
    blocks(markdown, "```rust")
}

/// Returns the text of each block that begins with this line.
fn blocks(markdown: &str, fence: &str) -> Vec<String> {
    let mut programs = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.trim_end() == fence {
            let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim_end() != "```").collect();
            programs.push(block.join("\n") + "\n");
        }
    }
    programs
}

/// Writes a crate that depends on this one, with a program for each block. It builds offline with the dependencies and versions
/// of this crate.
fn write_crate(dir: &Path, root: &Path, programs: &[String]) {
    let bins = dir.join("src/bin");
    // The files of an older README are removed.
    if bins.exists() {
        fs::remove_dir_all(&bins).expect("an earlier run's programs can be removed");
    }
    fs::create_dir_all(&bins).expect("the folder for temporary files is writable");
    for (number, program) in (1..).zip(programs) {
        fs::write(bins.join(format!("readme-{number}.rs")), program).expect("the folder is writable");
    }
    let manifest = format!(
        "[package]\nname = \"readme\"\nedition = \"2024\"\n\n[dependencies]\nleasehold = {{ path = '{}' }}\n\n\
         [profile.dev]\ndebug = 0\n\n[workspace]\n",
        root.display()
    );
    fs::write(dir.join("Cargo.toml"), manifest).expect("the folder is writable");
    fs::copy(root.join("Cargo.lock"), dir.join("Cargo.lock")).expect("the crate has a lock file");
}

#[test]
fn readme_programs_compile_and_run_as_pasted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    let readme = fs::read_to_string(root.join("README.md")).expect("the README exists beside the manifest");
    let programs = programs(&readme);
    assert_eq!(programs.len(), readme.matches("```rust").count(), "each block starts on a line of its own");
    assert!(programs.len() >= 4, "{} programs", programs.len());
    write_crate(&dir, root, &programs);
    for number in 1..=programs.len() {
        // The root may have a cargo configuration.
        let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(root)
            .args(["run", "--quiet", "--offline", "--bin", &format!("readme-{number}")])
            .arg("--manifest-path")
            .arg(dir.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(dir.join("target"))
            .output()
            .expect("cargo can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "program {number}:\n{}\n{errors}", programs[number - 1]);
    }
}

/// The block is marked `rs`, so that neither rustdoc nor the test above compiles it. The doc tests of `leasehold-etcd` compile the
/// same program in that crate's README.
#[test]
fn readme_program_of_adapter_is_in_the_adapters_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("the package has a README");
    let marked = blocks(&read("README.md"), "```rs");
    assert_eq!(marked.len(), 1, "the README has one program that needs leasehold-etcd");
    let compiled = programs(&read("leasehold-etcd/README.md"));
    assert!(
        compiled.contains(&marked[0]),
        "leasehold-etcd/README.md has no program as this one:\n{}",
        marked[0]
    );
}
