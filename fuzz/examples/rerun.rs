//! Runs a target without the fuzzer, on files and on random inputs from a seed.
//!
//! ```text
//! cargo run --release --example rerun -- commands corpus/commands --random 10000 --seed 7
//! cargo run --release --example rerun -- shrink artifacts/commands/crash-…
//! ```
//!
//! A folder as an argument means the files in it. `--write DIR` keeps the random inputs. `shrink` is not a target: it
//! prints the commands that a failing input of `commands` needs to fail.

use std::fs;
use std::path::{Path, PathBuf};

use leasehold_fuzz::{TARGETS, Target, commands};

/// The maximum length of a random input, in bytes.
const LENGTH_MAX: u64 = 400;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("the first argument is a target, or `shrink`");
    let (mut paths, mut random, mut seed, mut folder) = (Vec::new(), 0, 1, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("an option has a value");
        match &*argument {
            "--random" => random = value().parse().expect("the value of the option is a number"),
            "--seed" => seed = value().parse().expect("the value of the option is a number"),
            "--write" => folder = Some(PathBuf::from(value())),
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    let files: Vec<PathBuf> = paths.iter().flat_map(|path| files(path)).collect();
    if name == "shrink" {
        files.iter().for_each(|file| shrink(file));
        return;
    }
    let target =
        TARGETS.iter().find(|(target, _)| *target == name).expect("the first argument is a target").1;
    println!("{name}: {} files, {random} random inputs of seed {seed}", files.len());
    files.iter().for_each(|file| target(&read(file)));
    run_random(target, random, seed, folder.as_deref());
    println!("{name}: nothing found");
}

fn run_random(target: Target, inputs: u64, seed: u64, folder: Option<&Path>) {
    let mut random = Random(seed);
    for number in 0..inputs {
        let length = random.next() % LENGTH_MAX;
        let input: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        if let Some(folder) = folder {
            fs::create_dir_all(folder).expect("the folder can be created");
            fs::write(folder.join(number.to_string()), &input).expect("the input can be written");
        }
        target(&input);
    }
}

fn shrink(file: &Path) {
    match commands::shrink(&read(file)) {
        Some(divergence) => println!("{}:\n{divergence}\n", file.display()),
        None => println!("{}: nothing found", file.display()),
    }
}

/// Returns the file, or the files in the folder in order.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).expect("the folder can be listed");
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the entries of the folder can be read").path()).collect();
    files.sort();
    files
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The random number generator SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}
