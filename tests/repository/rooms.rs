//! The rooms of `src/`: an `impl` is in the room of its type or trait, and no file imports itself through other files.

use std::collections::{BTreeMap, BTreeSet};

use super::architecture::{Source, is_word, sources};

#[test]
fn implementations_are_in_the_room_of_their_type() {
    let files = sources("src");
    assert_eq!(strayed(&files), [""; 0]);
    let planted = |path: &str, code: &str| Source::new(path, code);
    let with = |stray: &str| {
        strayed(&[
            planted("src/engine/mod.rs", "pub struct Engine;\nimpl Engine {}"),
            planted("src/client/handle.rs", "pub struct Client;\npub trait Ask {}"),
            planted("src/store/handle.rs", &format!("pub struct Store;\n{stray}")),
        ])
        .len()
    };
    assert_eq!(with("impl Engine {"), 1);
    assert_eq!(with("impl<T: Into<Store>> Engine<T> {"), 1);
    assert_eq!(with("impl fmt::Debug for Engine {"), 1);
    assert_eq!(with("impl Store {\nimpl From<Store> for Client {\nimpl Ask for Store {"), 0);
}

#[test]
fn no_file_imports_itself_indirectly() {
    assert_eq!(circles(&sources("src")), [""; 0]);
    let files = [
        Source::new("src/client/a.rs", "use super::b::B;"),
        Source::new("src/client/b.rs", "use crate::client::c::d::D;"),
        Source::new("src/client/c/d.rs", "use super::super::a::A;\nuse super::C;"),
        Source::new("src/client/c/mod.rs", "use d::D;"),
    ];
    assert_eq!(circles(&files).len(), 3, "{:?}", circles(&files));
    assert_eq!(circles(&files[..2]), [""; 0]);
}

/// Returns the room of a file, or `None` for a file directly in `src/`.
fn room(path: &str) -> Option<&str> {
    path.strip_prefix("src/")?.split_once('/').map(|(room, _)| room)
}

/// Returns the identifiers and keywords of the code.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !is_word(letter)).filter(|word| !word.is_empty())
}

/// Returns the implementations that name types or traits of other rooms only.
fn strayed(files: &[Source]) -> Vec<String> {
    let mut rooms: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        let Some(room) = room(&file.path) else { continue };
        for line in &file.code {
            let mut words = words(line);
            let defines = |word: &&str| ["struct", "enum", "trait", "type"].contains(word);
            if !line.starts_with([' ', '}']) && words.any(|word| defines(&word)) {
                rooms.entry(words.next().unwrap_or_default()).or_default().insert(room);
            }
        }
    }
    let mut strayed = Vec::new();
    for file in files {
        let Some(room) = room(&file.path) else { continue };
        for line in file.code.iter().filter(|line| line.starts_with("impl")) {
            // The bounds of type parameters do not belong to the implementing type.
            let header = if line.starts_with("impl<") { after_parameters(line) } else { &line[4..] };
            let named: Vec<_> = words(header).filter_map(|word| rooms.get(word)).collect();
            if !named.is_empty() && !named.iter().any(|rooms| rooms.contains(room)) {
                strayed.push(format!("{}: {line}", file.path));
            }
        }
    }
    strayed
}

fn after_parameters(line: &str) -> &str {
    let mut depth = 0;
    for (at, letter) in line.char_indices() {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return &line[at + 1..];
        }
    }
    ""
}

/// Returns the files that import themselves through others. A file and the `mod.rs` above it may import each other.
fn circles(files: &[Source]) -> Vec<String> {
    let module = |path: &str| path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
    let modules: BTreeSet<String> = files.iter().map(|file| module(&file.path)).collect();
    let imports: BTreeMap<String, BTreeSet<String>> = files
        .iter()
        .map(|file| {
            let own = module(&file.path);
            let named = imported_modules(&file.code.join("\n"), &own);
            let found = named.iter().filter_map(|path| nearest(path, &modules));
            let found = found.filter(|found| !own.starts_with(found.as_str()) && !found.starts_with(&own));
            (own.clone(), found.collect())
        })
        .collect();
    let leads_back = |start: &String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = imports[start].iter().collect();
        while let Some(module) = next.pop() {
            if module == start {
                return true;
            }
            if seen.insert(module) {
                next.extend(&imports[module]);
            }
        }
        false
    };
    imports.keys().filter(|module| leads_back(module)).cloned().collect()
}

/// Returns the full paths that a file imports from its crate.
fn imported_modules(code: &str, own: &str) -> Vec<String> {
    let uses = code.split("\nuse ").skip(1).chain(code.strip_prefix("use "));
    uses.map(|import| {
        let path = import.split([';', '{']).next().unwrap_or_default().trim_end_matches("::");
        let mut base: Vec<&str> = own.split("::").collect();
        let mut rest = path;
        if let Some(from_root) = path.strip_prefix("crate::") {
            return format!("src::{from_root}");
        }
        while let Some(up) = rest.strip_prefix("super::") {
            base.pop();
            rest = up;
        }
        format!("{}::{rest}", base.join("::"))
    })
    .collect()
}

/// Returns the module that contains the item of a path.
fn nearest(path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut path = path;
    loop {
        if modules.contains(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}
