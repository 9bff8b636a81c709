//! Tests of the structure that ARCHITECTURE.md describes: imports between rooms, access to the outside, the one lock, and
//! the size budgets. Each rule is also tried on planted violations.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, lowest first, with the names that each may import from other rooms.
const ROOMS: [(&str, &[&str]); 7] = [
    ("api", &[]),
    ("engine", &["api"]),
    ("snapshot", &["api", "engine"]),
    ("client", &["api", "sync"]),
    ("store", &["api", "engine", "snapshot", "client", "sync"]),
    ("concurrency", &["api", "client", "sync"]),
    ("service", &["api", "client", "concurrency"]),
];

/// The names at the crate's root that every room may import: the re-exports of `error`.
const EVERYWHERE: [&str; 4] = ["error", "Error", "Result", "Code"];

/// Names for access to the outside, with the only files that may use them.
const DOORS: [(&str, &[&str]); 8] = [
    ("parking_lot", &["src/sync.rs"]),
    ("Instant", &["src/store/clock/system.rs"]),
    ("SystemTime", &[]),
    ("thread", &["src/store/clock/system.rs", "src/client/wake.rs"]),
    ("thread_local", &[]),
    // The default hash seed. The seed is an input, and no response depends on it.
    ("RandomState", &["src/engine/mod.rs"]),
    ("HashMap", &[]),
    ("HashSet", &[]),
];

/// Names that the deterministic rooms may not use.
const IMPURE: [&str; 14] = [
    "Mutex", "RwLock", "Condvar", "Arc", "Atomic", "OnceLock", "env", "fs", "io", "net", "process", "rand",
    "Rc", "Cell",
];

/// `Arc` shares records, and the events of a revision.
const IMPURE_EXCEPT: [(&str, &str); 4] = [
    ("src/api/key_value.rs", "Arc"),
    ("src/api/watch.rs", "Arc"),
    ("src/engine/watch/publish.rs", "Arc"),
    ("src/engine/watch/catch_up.rs", "Arc"),
];

/// Code that no source file may have, with its replacement.
const BANNED: [(&str, &str); 6] = [
    (".unwrap()", "`expect` with the invariant"),
    ("#[allow", "`#[expect` with the reason"),
    ("todo!", "the code"),
    ("FIXME", "the fix"),
    ("TODO", "an issue"),
    ("unsafe ", "safe code"),
];

/// The folders of all sources. `sources` skips packages below them.
pub(super) const ALL_SOURCES: [&str; 15] = [
    "src",
    "tests",
    "tests/testkit/src",
    "examples",
    "benches",
    "benches/peers/src",
    "leasehold-sim/elsewhere",
    "leasehold-sim/examples",
    "leasehold-sim/madsim",
    "leasehold-sim/src",
    "leasehold-sim/tests",
    "fuzz/src",
    "fuzz/fuzz_targets",
    "fuzz/examples",
    "leasehold-etcd",
];

/// The sources that users compile.
const LIBRARIES: [&str; 2] = ["src", "leasehold-etcd/src"];

/// The files that only declare modules and export names.
const FACES: [&str; 2] = ["src/lib.rs", "leasehold-etcd/src/lib.rs"];

const FILE_LINES_MAX: usize = 400;
const FACE_LINES_MAX: usize = 60;
const FUNCTION_LINES_MAX: usize = 70;

pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    /// The file without comments and the text of literals, line by line.
    pub(super) code: Vec<String>,
}

#[test]
fn rooms_import_only_lower_rooms() {
    assert_none(sources("src").iter().flat_map(wrong_imports));
}

#[test]
fn outside_access_is_limited_to_listed_files() {
    assert_none(sources("src").iter().flat_map(forced_doors));
}

#[test]
fn store_lock_is_taken_once_for_writing_and_once_for_reading() {
    let sources = sources("src");
    for call in [".write()", ".read()", ".try_write(", ".try_read("] {
        let sites: Vec<&str> = sources.iter().flat_map(|source| lock_sites(source, call)).collect();
        let expected: &[&str] = if call.contains("try") { &[] } else { &["src/store/shell.rs"] };
        assert_eq!(sites, expected, "the places that call `{call}`");
    }
}

#[test]
fn files_and_functions_are_within_budgets() {
    assert_none(ALL_SOURCES.map(sources).iter().flatten().flat_map(over_budget));
}

#[test]
fn sources_have_no_banned_code() {
    assert_none(LIBRARIES.map(sources).iter().flatten().flat_map(banned_words));
}

#[test]
fn tests_named_in_etcd_table_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let table = fs::read_to_string(root.join("ETCD_TESTS.md")).expect("the table exists");
    let rows = table.lines().filter(|line| line.starts_with("| Test") || line.starts_with("| Example"));
    let words = rows.flat_map(|row| row.split(|letter: char| !is_word(letter) && letter != ':'));
    let named: Vec<(&str, &str)> = words.filter_map(|word| word.rsplit_once("::")).collect();
    assert!(named.len() > 150, "the table names only {} tests", named.len());
    assert_none(missing_tests(&named));
    assert_eq!(
        missing_tests(&[("api::keys::get", "no_such_test"), ("api::no_such_file", "main")]).count(),
        2
    );
}

/// The documentation names a test as `tests/binary/file.rs`: `name`.
#[test]
fn tests_named_in_documentation_exist() {
    let asked = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual/asked.md");
    let asked = fs::read_to_string(asked).expect("the table exists");
    let after_folders = asked.split("`tests/").skip(1);
    let named: Vec<(&str, &str)> = after_folders
        .map(|rest| {
            let (file, rest) = rest.split_once(".rs`: `").expect("a file is named with a test");
            (file, rest.split('`').next().unwrap_or_default())
        })
        .collect();
    assert!(named.len() > 50, "the table names only {} tests", named.len());
    assert_none(missing_tests(&named));
    assert_eq!(missing_tests(&[("locks/mutex", "no_such_test"), ("no_such_file", "main")]).count(), 2);
}

#[test]
fn planted_violations_are_found() {
    let engine = |code: &str| Source::new("src/engine/planted_here.rs", code);
    for import in [
        "use crate::store::Store;",
        "use crate::Store;",
        "use crate::{Error, Store};",
        "use crate::{Error, store::{Clock, Timer}};",
        "use super::super::store::Store;",
        "use crate::sync::Mutex;",
        "use crate::*;",
    ] {
        assert_eq!(wrong_imports(&engine(import)).len(), 1, "{import}");
    }
    for pure in [
        "use crate::{Error, Result};",
        "use crate::api::{Get, Put};",
        "use super::slab::Slab; // crate::store",
    ] {
        assert_eq!(wrong_imports(&engine(pure)), [""; 0], "{pure}");
    }
    for door in [
        "Instant::now()",
        "use std::sync::Mutex;",
        "parking_lot::RwLock",
        "HashMap::new()",
        "std::env::var(x)",
    ] {
        assert!(!forced_doors(&engine(door)).is_empty(), "{door}");
    }
    assert_eq!(forced_doors(&engine("let instantly = environment(\"Instant\"); // Instant")), [""; 0]);
    let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(FUNCTION_LINES_MAX));
    assert_eq!(over_budget(&engine(&long)).len(), 1);
    let commented = format!("fn short() {{\n{}}}\n", "    // a step\n\n".repeat(FILE_LINES_MAX));
    assert_eq!(over_budget(&engine(&commented)), [""; 0]);
    assert_eq!(over_budget(&engine(&"const A: u8 = 0;\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
    assert_eq!(over_budget(&Source::new("src/lib.rs", &"mod a;\n".repeat(FACE_LINES_MAX + 1))).len(), 1);
    assert_eq!(banned_words(&engine("value.unwrap();")).len(), 1);
    assert_eq!(lock_sites(&engine("self.state.write().engine"), ".write()").len(), 1);
}

/// A file without a `mod` declaration is not compiled, and its tests do not run.
#[test]
fn every_file_of_a_test_binary_is_a_module() {
    let files = sources("tests");
    assert!(files.iter().filter(|source| source.path.ends_with("/main.rs")).count() > 5);
    assert_none(undeclared(&files));
    let planted = ["main.rs", "lost.rs", "found.rs", "found/lost.rs", "found/child.rs", "inline/child.rs"];
    let code = |name: &str| match name {
        "main.rs" => "mod found;\nmod inline {\n    mod child;\n}\n",
        "found.rs" => "mod child;\n",
        _ => "",
    };
    let planted = planted.map(|name| Source::new(&format!("tests/planted/{name}"), code(name)));
    let lost = ["tests/planted/lost.rs", "tests/planted/found/lost.rs"];
    assert_eq!(undeclared(&planted).collect::<Vec<_>>(), lost.map(|path| format!("{path}: is no module")));
}

/// Returns a line for each file of a test binary that neither `main.rs` nor its parent module declares.
pub(super) fn undeclared(files: &[Source]) -> impl Iterator<Item = String> {
    let declares = |path: &str, module: &str| {
        let declaration = format!("mod {module};");
        let mut lines = files.iter().filter(|source| source.path == path).flat_map(|source| &source.code);
        lines.any(|line| line.trim() == declaration)
    };
    let is_declared = move |path: &str| {
        let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
        match parts[..] {
            // A file directly in `tests` is a binary of its own.
            [_, _] | [_, _, "main"] => true,
            [tests, binary, .., module] => {
                let folder = parts[..parts.len() - 1].join("/");
                [format!("{tests}/{binary}/main.rs"), format!("{folder}.rs")]
                    .iter()
                    .any(|parent| declares(parent, module))
            }
            _ => false,
        }
    };
    let undeclared = files.iter().filter(move |source| !is_declared(&source.path));
    undeclared.map(|source| format!("{}: is no module", source.path))
}

#[test]
fn modules_have_no_path_attributes() {
    assert_none(ALL_SOURCES.map(sources).iter().flatten().flat_map(path_attributes));
    assert_eq!(path_attributes(&Source::new("tests/planted.rs", "#[path = \"a.rs\"]\nmod a;")).len(), 1);
}

fn path_attributes(source: &Source) -> Vec<String> {
    let has_attribute = |line: &&String| line.trim().starts_with("#[path");
    source.code.iter().filter(has_attribute).map(|line| format!("{}: {line}", source.path)).collect()
}

/// Returns a line for each of these tests, named by module and function, that does not exist.
fn missing_tests(named: &[(&str, &str)]) -> impl Iterator<Item = String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    named.iter().filter_map(move |(file, name)| {
        let source =
            fs::read_to_string(root.join(file.replace("::", "/")).with_extension("rs")).unwrap_or_default();
        let is_there = source.contains(&format!("fn {name}("));
        (!is_there).then(|| format!("{file}::{name} does not exist"))
    })
}

/// Returns a line for each name after `crate::` or `super::super::` that the file's room may not import.
fn wrong_imports(source: &Source) -> Vec<String> {
    let Some((room, below)) = ROOMS.iter().find(|(room, _)| source.path.starts_with(&format!("src/{room}/")))
    else {
        return Vec::new();
    };
    let code = source.code.join("\n");
    let from_root = ["crate::", "super::super::"].into_iter().flat_map(|root| code.split(root).skip(1));
    let named = from_root.flat_map(|rest| match rest.strip_prefix('{') {
        Some(group) => names_of_group(group),
        None => vec![leading_name(rest)],
    });
    let is_allowed =
        |name: &String| name == room || below.contains(&&**name) || EVERYWHERE.contains(&&**name);
    named.filter(|name| !is_allowed(name)).map(|name| format!("{}: names {name}", source.path)).collect()
}

/// Returns the first names of an import group's elements, up to its closing brace.
fn names_of_group(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut at_start) = (Vec::new(), 0, true);
    for (position, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            letter if letter.is_whitespace() => {}
            _ if at_start => {
                names.push(leading_name(&group[position..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

fn leading_name(code: &str) -> String {
    let name: String = code.chars().take_while(|&letter| is_word(letter)).collect();
    if name.is_empty() { code.chars().take(1).collect() } else { name }
}

fn forced_doors(source: &Source) -> Vec<String> {
    let pure = ["src/api/", "src/engine/"].iter().any(|room| source.path.starts_with(room));
    let impure = IMPURE.into_iter().filter(|&word| pure && !IMPURE_EXCEPT.contains(&(&source.path, word)));
    let banned: Vec<&str> = not_listed(&DOORS, source).into_iter().chain(impure).collect();
    banned_names(source, &banned)
}

/// Returns the words of doors that do not list the file.
pub(super) fn not_listed<'a>(doors: &[(&'a str, &[&str])], source: &Source) -> Vec<&'a str> {
    let doors = doors.iter().filter(|(_, files)| !files.contains(&&*source.path));
    doors.map(|(word, _)| *word).collect()
}

pub(super) fn banned_names(source: &Source, banned: &[&str]) -> Vec<String> {
    let words = source.code.iter().flat_map(|line| line.split(|letter| !is_word(letter)));
    let is_banned = |word: &str| {
        banned.iter().any(|&banned| word == banned || banned == "Atomic" && word.starts_with(banned))
    };
    words.filter(|word| is_banned(word)).map(|word| format!("{}: names {word}", source.path)).collect()
}

fn lock_sites<'a>(source: &'a Source, call: &str) -> Vec<&'a str> {
    source.code.iter().flat_map(|line| line.matches(call).map(|_| &*source.path)).collect()
}

fn over_budget(source: &Source) -> Vec<String> {
    let is_code = |line: &&String| !line.trim().is_empty();
    let file_max = if FACES.contains(&&*source.path) { FACE_LINES_MAX } else { FILE_LINES_MAX };
    let lines = source.code.iter().filter(is_code).count();
    let file =
        (lines > file_max).then(|| format!("{}: {lines} lines of code, {file_max} at most", source.path));
    let functions = source.code.iter().enumerate().filter(|(_, line)| begins_function(line));
    let long = functions.filter_map(|(start, line)| {
        let length = function_length(&source.code[start..]);
        let name = line.trim();
        (length > FUNCTION_LINES_MAX).then(|| format!("{}: {length} lines in `{name}`", source.path))
    });
    file.into_iter().chain(long).collect()
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split(|letter: char| !is_word(letter)).filter(|word| !word.is_empty());
    words.any(|word| word == "fn") && !line.contains("Fn(") && line.contains('(')
}

/// Returns the number of lines of code from a function's first line to its closing brace.
fn function_length(code: &[String]) -> usize {
    let (mut depth, mut length) = (0_i32, 0);
    for line in code.iter().filter(|line| !line.trim().is_empty()) {
        length += 1;
        let opens = line.matches('{').count() as i32;
        depth += opens - line.matches('}').count() as i32;
        if depth <= 0 && (opens > 0 || line.contains('}') || line.trim_end().ends_with(';')) {
            break;
        }
    }
    length
}

fn banned_words(source: &Source) -> Vec<String> {
    let found = |line: &String| {
        let hit = BANNED.iter().find(|(word, _)| line.contains(word))?;
        Some(format!("{}: `{}` instead of {}: {}", source.path, hit.0, hit.1, line.trim()))
    };
    source.code.iter().filter_map(found).collect()
}

pub(super) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

pub(super) fn assert_none(violations: impl Iterator<Item = String>) {
    let violations: Vec<String> = violations.collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

/// Reads all Rust files below a folder, except packages below it, ordered by path.
pub(super) fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository can be listed") {
            let path = entry.expect("an entry of the folder can be read").path();
            if path.is_dir() {
                let is_own_package = path.join("Cargo.toml").exists() || path.ends_with("target");
                folders.extend((!is_own_package).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{folder} has no sources");
    let relative =
        |path: &Path| path.strip_prefix(root).expect("a source is below the root").display().to_string();
    let read = |path: &PathBuf| fs::read_to_string(path).expect("a source file is text");
    files.iter().map(|path| Source::new(&relative(path), &read(path))).collect()
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let mut code = String::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '/' if letters.peek() == Some(&'/') => {
                    while letters.next_if(|&next| next != '\n').is_some() {}
                }
                '"' => {
                    code.push('"');
                    skip_string(&mut letters, &mut code);
                    code.push('"');
                }
                '\'' => skip_char(&mut letters),
                other => code.push(other),
            }
        }
        Self {
            path: path.replace('\\', "/"),
            text: text.to_owned(),
            code: code.lines().map(str::to_owned).collect(),
        }
    }
}

/// Reads to the end of a string literal, keeping its line breaks, so that lines still count.
fn skip_string(letters: &mut std::iter::Peekable<std::str::Chars<'_>>, code: &mut String) {
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => code.extend(letters.next().filter(|&escaped| escaped == '\n')),
            '"' => return,
            '\n' => code.push('\n'),
            _ => {}
        }
    }
}

/// Reads to the end of a character literal. Leaves a lifetime unread.
fn skip_char(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let mut ahead = letters.clone();
    let literal = match ahead.next() {
        Some('\\') => ahead.nth(1).is_some() || ahead.next().is_some(),
        Some(_) => ahead.next() == Some('\''),
        None => false,
    };
    if literal {
        if letters.next() == Some('\\') {
            letters.next();
        }
        while letters.next_if(|&next| next != '\'').is_some() {}
        letters.next();
    }
}
