//! Tests of the prose: banned words in comments, messages and pages, and sentences with a clause or a person as their subject.
//!
//! A failed test lists each hit with its sentence and the replacement.

use std::fs;
use std::path::Path;

use super::architecture::{ALL_SOURCES, Source, is_word, sources};

/// Words and phrases that the prose must not have, with their replacements.
const BANNED: [(&str, &str); 29] = [
    ("told", "notified"),
    ("tell", "notify"),
    ("tells", "notifies"),
    ("said", "reported"),
    ("says", "reports"),
    ("give", "return"),
    ("gives", "returns"),
    ("given", "passed"),
    ("gave", "returned"),
    ("meanwhile", "concurrently"),
    ("anew", "again"),
    ("be it", "a new sentence"),
    ("of which", "a new sentence"),
    ("of whom", "a new sentence"),
    ("whom", "a part of the code"),
    ("whoever", "a part of the code"),
    ("one's", "its"),
    ("nobody", "no task"),
    ("nobody's", "no task's"),
    ("somebody", "another client"),
    ("somebody's", "another client's"),
    ("anybody", "any client"),
    ("looks", "polls"),
    ("stands", "is queued"),
    ("goes off", "fires"),
    ("goes on", "continues"),
    ("go on", "continue"),
    ("comes to rest", "settles"),
    ("come to rest", "settle"),
];

/// Phrases that contain a banned word and are allowed.
const EXCEPTIONS: [&str; 3] = ["looks up", "stands for", "a given"];

/// The beginnings of sentences with a clause or a person as their subject.
const ODD_STARTS: [&str; 12] = [
    "Who", "Whoever", "Whom", "Whose", "What", "Whatever", "That", "Those", "Nobody", "Somebody", "Of what",
    "As for",
];

/// The tested pages. SEMANTICS.md is a specification with its own wording.
const PAGES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "fuzz/README.md",
    "leasehold-sim/README.md",
    "tests/conformance/README.md",
];

/// The folders with tested pages.
const PAGE_FOLDERS: [&str; 4] = ["tests", "src/manual", "leasehold-etcd", "leasehold-etcd/src"];

/// The folder of protocol files. Their comments have the form of comments in Rust.
const PROTOCOL: &str = "leasehold-etcd/proto";

/// The prose of one file: paragraphs of comments or of a page, and messages of panics and assertions.
struct Prose {
    path: String,
    paragraphs: Vec<Paragraph>,
    messages: Vec<String>,
}

/// Consecutive lines of prose. A list item, a heading and a row of a table are not parts of sentences.
struct Paragraph {
    text: String,
    is_sentences: bool,
}

#[test]
fn prose_has_no_banned_word() {
    assert_no_hit(banned);
}

#[test]
fn sentences_begin_with_a_part_of_the_code() {
    assert_no_hit(odd_starts);
}

#[test]
fn planted_prose_is_found() {
    let code = concat!(
        "//! A first line\n//! of which the second continues it.\n\n",
        "/// Returns the key. `told` is code, and a given word is allowed.\n",
        "/// ```\n/// // Code that tells nothing.\n/// ```\n/// Who reads this is told.\n",
        "fn f<'a>(x: &'a str) {\n    let quote = '\"'; // nobody is here\n",
        "    assert!(g(x, r#\"a \"told\" literal\"#), \"the key {x} is gone on, and goes on\");\n",
        "    x.expect(\"somebody \\\"waits\\\"\");\n    assert_eq!(\"told\", x);\n    h(\"http://told\", b\"said\");\n}\n",
    );
    let prose = Prose::of_source(&Source::new("src/planted.rs", code));
    let words: Vec<String> =
        banned(&prose).iter().map(|hit| hit.split('`').nth(1).expect("a word").to_owned()).collect();
    assert_eq!(words, ["of which", "told", "nobody", "goes on", "somebody"]);
    assert_eq!(odd_starts(&prose).len(), 1);

    let page = concat!(
        "# What this is\n\nThat it holds. Those are two: What is one; Whatever. A What.\nWhoever\n\n",
        "| told |\n|---|\n\n```\nsaid\n```\n- That\n",
    );
    let prose = Prose::of_page("README.md", page);
    assert_eq!(banned(&prose).len(), 2, "{:?}", banned(&prose));
    assert_eq!(odd_starts(&prose).len(), 5, "{:?}", odd_starts(&prose));
    assert_eq!(sentences("A b. C d: e f; `g`! [H] Whatsoever? Those").count(), 5);
    assert!(is_odd("Of what it is") && is_odd("That") && !is_odd("Thatched") && !is_odd("Of whatever"));
}

fn assert_no_hit(hits: impl Fn(&Prose) -> Vec<String>) {
    let found: Vec<String> = all_prose().iter().flat_map(hits).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Reads all sources and pages.
fn all_prose() -> Vec<Prose> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files_in = |folder: &'static str, extension: &'static str| {
        let entries = fs::read_dir(root.join(folder)).expect("a folder of the repository can be listed");
        let names = entries.map(|entry| entry.expect("an entry of the folder can be read").file_name());
        let paths = names.map(move |name| format!("{folder}/{}", name.to_string_lossy()));
        paths.filter(move |path| path.ends_with(extension)).collect::<Vec<String>>()
    };
    let text =
        |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let pages = PAGES.map(str::to_owned).into_iter();
    let pages = pages.chain(PAGE_FOLDERS.into_iter().flat_map(|folder| files_in(folder, ".md")));
    let mut all: Vec<Prose> = pages.map(|path| Prose::of_page(&path, &text(&path))).collect();
    let protocol = files_in(PROTOCOL, ".proto");
    assert!(protocol.len() > 3, "the protocol has only {} files", protocol.len());
    all.extend(protocol.iter().map(|path| Prose::of_source(&Source::new(path, &text(path)))));
    all.extend(ALL_SOURCES.map(sources).iter().flatten().map(Prose::of_source));
    all
}

impl Prose {
    fn of_source(source: &Source) -> Self {
        let Lexer { comments, messages, .. } = Lexer::run(&source.text);
        let mut paragraphs = Paragraphs::default();
        let mut last = 0;
        for Comment { line, text, is_alone } in comments {
            if line != last + 1 || !is_alone {
                paragraphs.end_block();
            }
            paragraphs.add(&text);
            last = if is_alone { line } else { 0 };
        }
        Self { path: source.path.clone(), paragraphs: paragraphs.finish(), messages }
    }

    fn of_page(path: &str, text: &str) -> Self {
        let mut paragraphs = Paragraphs::default();
        text.lines().for_each(|line| paragraphs.add(line));
        Self { path: path.to_owned(), paragraphs: paragraphs.finish(), messages: Vec::new() }
    }
}

/// Collects lines into paragraphs, without fenced code.
#[derive(Default)]
struct Paragraphs {
    done: Vec<Paragraph>,
    open: Vec<String>,
    is_code: bool,
}

impl Paragraphs {
    fn add(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("```") {
            self.end();
            self.is_code = !self.is_code;
            return;
        }
        if self.is_code {
            return;
        }
        if line.is_empty() {
            self.end();
        } else if line.starts_with(['#', '|']) || line.starts_with("- ") || line.starts_with("* ") {
            self.end();
            self.done.push(Paragraph { text: line.to_owned(), is_sentences: false });
        } else {
            self.open.push(line.to_owned());
        }
    }

    fn end(&mut self) {
        if !self.open.is_empty() {
            let text = std::mem::take(&mut self.open).join(" ");
            self.done.push(Paragraph { text, is_sentences: true });
        }
    }

    /// Ends a comment, and with it fenced code.
    fn end_block(&mut self) {
        self.end();
        self.is_code = false;
    }

    fn finish(mut self) -> Vec<Paragraph> {
        self.end();
        self.done
    }
}

/// Returns a line for each banned word.
fn banned(prose: &Prose) -> Vec<String> {
    let texts = prose.paragraphs.iter().map(|paragraph| &paragraph.text).chain(&prose.messages);
    let hits = texts.flat_map(|text| {
        let words = words(text);
        BANNED.iter().flat_map(move |(phrase, instead)| {
            let times = words.matches(&format!(" {phrase} ")).count();
            std::iter::repeat_n((phrase, instead, text), times)
        })
    });
    hits.map(|(phrase, instead, text)| format!("{}: `{phrase}` ({instead}) in: {text}", prose.path)).collect()
}

/// Returns the words of a text in lower case between single spaces, without code and exceptions.
fn words(text: &str) -> String {
    let prose = text.split('`').step_by(2).collect::<Vec<_>>().join(" code ").to_lowercase();
    let is_part = |letter: char| is_word(letter) || letter == '\'' || letter == ':';
    let words: Vec<&str> =
        prose.split(|letter: char| !is_part(letter)).filter(|word| !word.is_empty()).collect();
    let words: Vec<&str> = words.iter().map(|word| word.trim_matches(['\'', ':'])).collect();
    let joined = format!(" {} ", words.join(" "));
    EXCEPTIONS.iter().fold(joined, |text, exception| text.replace(&format!(" {exception} "), "  "))
}

fn sentences_of(prose: &Prose) -> impl Iterator<Item = &str> {
    let paragraphs = prose.paragraphs.iter().filter(|paragraph| paragraph.is_sentences);
    paragraphs.flat_map(|paragraph| sentences(&paragraph.text))
}

/// Splits a text after `.`, `!`, `?`, `:` and `;` before white space and a capital letter or code.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut starts = vec![0];
    let mut letters = text.char_indices().peekable();
    while let Some((_, letter)) = letters.next() {
        let mut is_spaced = false;
        while matches!(letter, '.' | '!' | '?' | ':' | ';')
            && letters.next_if(|(_, next)| next.is_whitespace()).is_some()
        {
            is_spaced = true;
        }
        if is_spaced
            && let Some(&(at, next)) = letters.peek()
            && (next.is_ascii_uppercase() || next == '`' || next == '[')
        {
            starts.push(at);
        }
    }
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| text[start..end].trim()).filter(|text| !text.is_empty())
}

/// Returns a line for each sentence with a clause or a person as its subject.
fn odd_starts(prose: &Prose) -> Vec<String> {
    let odd = sentences_of(prose).filter(|sentence| is_odd(sentence));
    odd.map(|sentence| format!("{}: begins oddly: {sentence}", prose.path)).collect()
}

fn is_odd(sentence: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(is_word);
    ODD_STARTS.iter().any(|start| sentence.strip_prefix(start).is_some_and(ends))
}

struct Comment {
    line: usize,
    text: String,
    /// Whether the line has no code.
    is_alone: bool,
}

/// Splits Rust code into comments and the string literals of messages.
struct Lexer {
    letters: Vec<char>,
    at: usize,
    line: usize,
    /// Whether the present line has code before `at`.
    has_code: bool,
    /// The name that ends at `at`, with `!` or the hashes of a raw string.
    name: String,
    /// For each open bracket, the argument from which on literals are messages, if any, and the number of commas.
    open: Vec<(Option<usize>, usize)>,
    comments: Vec<Comment>,
    messages: Vec<String>,
}

impl Lexer {
    fn run(code: &str) -> Self {
        let mut lexer = Self {
            letters: code.chars().collect(),
            at: 0,
            line: 1,
            has_code: false,
            name: String::new(),
            open: Vec::new(),
            comments: Vec::new(),
            messages: Vec::new(),
        };
        while let Some(letter) = lexer.next() {
            lexer.take(letter);
        }
        lexer
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek(0)?;
        self.at += 1;
        if next == '\n' {
            self.line += 1;
            self.has_code = false;
        }
        Some(next)
    }

    fn take(&mut self, letter: char) {
        let name = std::mem::take(&mut self.name);
        match letter {
            '/' if self.peek(0) == Some('/') => return self.comment(),
            '"' => self.literal(&name),
            // A character, unless it is a lifetime.
            '\'' if self.peek(0) == Some('\\') || self.peek(1) == Some('\'') => {
                let escaped = usize::from(self.peek(0) == Some('\\'));
                self.at += 1 + escaped;
                while self.next().is_some_and(|next| next != '\'') {}
            }
            '(' | '[' | '{' => self.open.push((messages_from(&name).filter(|_| letter == '('), 0)),
            ')' | ']' | '}' => drop(self.open.pop()),
            ',' => self.open.iter_mut().next_back().into_iter().for_each(|(_, commas)| *commas += 1),
            '!' | '#' => self.name = name + &letter.to_string(),
            letter if is_word(letter) => {
                let is_continued = name.ends_with(is_word);
                self.name = if is_continued { name + &letter.to_string() } else { letter.to_string() };
            }
            _ => {}
        }
        self.has_code |= !letter.is_whitespace();
    }

    fn comment(&mut self) {
        let (line, is_alone) = (self.line, !self.has_code);
        let start = self.at + 1;
        while self.peek(0).is_some_and(|next| next != '\n') {
            self.at += 1;
        }
        let text: String = self.letters[start..self.at].iter().collect();
        let text = text.strip_prefix(['/', '!']).unwrap_or(&text).to_owned();
        self.comments.push(Comment { line, text, is_alone });
    }

    /// Reads to the end of a string literal, which begins with `r` and hashes if it is raw.
    fn literal(&mut self, name: &str) {
        let hashes = name.trim_start_matches(is_word);
        let is_raw = ["r", "br"].contains(&name.trim_end_matches('#'));
        let mut text = String::new();
        while let Some(letter) = self.next() {
            match letter {
                '\\' if !is_raw => {
                    text.extend(self.next().filter(|next| !next.is_whitespace()));
                }
                '"' if !is_raw => break,
                '"' if hashes.chars().enumerate().all(|(n, hash)| self.peek(n) == Some(hash)) => {
                    self.at += hashes.len();
                    break;
                }
                other => text.push(other),
            }
        }
        if let Some((Some(from), commas)) = self.open.last()
            && commas >= from
        {
            self.messages.push(text);
        }
    }
}

/// Returns the first argument of a method or macro that is a message.
fn messages_from(name: &str) -> Option<usize> {
    match name.trim_start_matches("debug_").trim_start_matches("prop_") {
        "expect" | "expect_err" | "panic!" | "unreachable!" => Some(0),
        "assert!" => Some(1),
        "assert_eq!" | "assert_ne!" => Some(2),
        _ => None,
    }
}
