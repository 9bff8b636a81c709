//! A zoo of coordination bugs: twelve small programs, each with a published bug and with its fix.
//!
//! `cargo run --release -p leasehold-sim --example zoo -- 1000000 2000` runs each program and its fix on 2,000 seeds from
//! 1,000,000 on, and prints a table. With the name of a program as third argument, it prints the story of its first failure.
//!
//! The test `pairing` runs both on 10,000 seeds, and fails unless each bug is found and no fix fails.

mod pairing;
mod programs;
mod tools;

use std::env;

use pairing::Pairing;
use programs::PROGRAMS;

fn main() {
    let mut arguments = env::args().skip(1);
    let mut number = |default| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (first, count) = (number(0), number(1_000));
    let only = arguments.next();
    println!("| program | bug alone | both | fix alone | seeds a find | calm | classes |");
    println!("|---|---|---|---|---|---|---|");
    for program in PROGRAMS.iter().filter(|program| only.as_ref().is_none_or(|only| *only == program.name)) {
        let pairing = Pairing::run(program, first..first + count);
        println!("{}", pairing.row());
        if only.is_some() {
            pairing.failures.iter().for_each(|failure| println!("{failure}"));
        }
    }
}
