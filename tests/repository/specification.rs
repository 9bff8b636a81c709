//! SEMANTICS.md defines each rule that tests and documentation cite, once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Folders and pages that cite rules.
const CITING: [&str; 12] = [
    "src",
    "tests",
    "examples",
    "benches",
    "fuzz/src",
    "fuzz/fuzz_targets",
    "fuzz/examples",
    "leasehold-etcd",
    "README.md",
    "ARCHITECTURE.md",
    "SEMANTICS.md",
    "CHANGELOG.md",
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the rules that a text cites, such as `R-CMP-2`.
fn rules(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    words.filter(|word| match word.split('-').collect::<Vec<_>>()[..] {
        ["R", area, number] => {
            let is_area = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            !area.is_empty() && area.bytes().all(is_area) && is_number
        }
        _ => false,
    })
}

/// Adds the rules that are cited in a page, or in the sources and pages of a folder.
fn add_cited(path: &Path, cited: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder of the package can be listed") {
            add_cited(&entry.expect("an entry of the folder can be read").path(), cited);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
        cited.extend(rules(&read(path)).map(str::to_owned));
    }
}

#[test]
fn cited_rules_are_defined_in_the_specification() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let specification = read(&root.join("SEMANTICS.md"));
    let defines =
        |line: &str| rules(line.strip_prefix("**R-").map_or("", |_| line)).next().map(str::to_owned);
    let mut defined = BTreeSet::new();
    for rule in specification.lines().filter_map(defines) {
        assert!(defined.insert(rule.clone()), "{rule} is defined twice");
    }
    let mut cited = BTreeSet::new();
    CITING
        .iter()
        .map(|name| root.join(name))
        .filter(|path| path.exists())
        .for_each(|path| add_cited(&path, &mut cited));
    assert!(cited.len() > 100, "{} rules are cited", cited.len());
    // The examples below are not rules.
    let example = |rule: &str| ["R-TXN-999", "R-0-999"].contains(&rule);
    let missing: Vec<_> = cited.difference(&defined).filter(|rule| !example(rule)).collect();
    assert!(missing.is_empty(), "cited and not defined: {missing:?}");
    let found: Vec<&str> = rules("R-TXN-999, (R-0-999) R-X- R-cmp-1 and a-R-X-1").collect();
    assert_eq!(found, ["R-TXN-999", "R-0-999"]);
}
