//! A short, always equal run of the fuzz targets: every seed as it is, then mutations of them.

use std::fs;
use std::panic::catch_unwind;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cts_tests::installed;
use fuzz_bodies::{BODIES, Body};

/// Mutations of each target's seeds: some seconds in an unoptimised build.
const MUTATIONS: u32 = 20_000;

/// A mutated input grows no longer than this.
const LONGEST: usize = 4096;

/// xorshift64 (Marsaglia, "Xorshift RNGs", 2003): the same mutations on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn one<'of, T>(&mut self, of: &'of [T]) -> &'of T {
        &of[self.below(of.len())]
    }
}

/// Bytes at which parsers change their minds.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff \n\r#/.:=-09afk";

fn mutate(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let place = random.below(input.len() + 1);
    let end = (place + random.below(24)).min(input.len());
    match random.below(7) {
        0 => input.truncate(place),
        1 => drop(input.drain(place..end)),
        2 => drop(input.splice(place..place, input[place..end].to_vec())),
        3 => {
            let other = random.one(seeds);
            let from = random.below(other.len() + 1);
            drop(input.splice(place..end, other[from..].iter().take(48).copied().collect::<Vec<_>>()));
        }
        4 => input.insert(place, *random.one(TELLING)),
        5 if place < input.len() => input[place] = *random.one(TELLING),
        _ if place < input.len() => input[place] ^= 1 << (random.byte() % 8),
        _ => input.push(random.byte()),
    }
    input.truncate(LONGEST);
}

fn seeds(target: &str) -> Result<Vec<Vec<u8>>> {
    let directory = installed::workspace().join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    // Directories have no order of their own.
    paths.sort();
    ensure!(!paths.is_empty(), "{} has no seeds", directory.display());
    paths.iter().map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display()))).collect()
}

/// Tries the seeds and mutations of them; an error with the input that breaks the body.
fn run(target: &str, body: Body, seeds: &[Vec<u8>]) -> Result<()> {
    let holds = |input: &[u8]| {
        ensure!(
            catch_unwind(|| body(input)).is_ok(),
            "{target} breaks on b\"{}\"; its panic is above. Keep this input as a file of fuzz/seeds/{target}",
            input.escape_ascii()
        );
        Ok(())
    };
    seeds.iter().try_for_each(|seed| holds(seed))?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..MUTATIONS {
        let mut input = random.one(seeds).clone();
        for _ in 0..=random.below(6) {
            mutate(&mut random, &mut input, seeds);
        }
        holds(&input)?;
    }
    Ok(())
}

#[test]
fn no_mutated_seed_breaks_a_body() -> Result<()> {
    for (target, body) in BODIES {
        let (seeds, began) = (seeds(target)?, Instant::now());
        run(target, *body, &seeds)?;
        println!("{target}: {} seeds, {MUTATIONS} mutations, {:.1} s", seeds.len(), began.elapsed().as_secs_f64());
    }
    Ok(())
}

#[test]
fn every_target_has_a_body_and_every_body_a_target() -> Result<()> {
    let directory = installed::workspace().join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(&format!("fuzz_bodies::{name}(bytes)")), "{} runs another body", path.display());
        targets.push(name);
    }
    targets.sort();
    let mut bodies: Vec<_> = BODIES.iter().map(|(name, _)| *name).collect();
    bodies.sort_unstable();
    assert_eq!(targets, bodies);
    Ok(())
}

#[test]
fn a_body_that_breaks_on_a_mutation_is_found_with_its_input() {
    let fragile: Body =
        |bytes| assert!(!bytes.starts_with(b"192.0.2.10/24#"), "expected: this panic belongs to the test");
    let error = run("fragile", fragile, &[b"192.0.2.10/24\n".to_vec()]).expect_err("the mutations find nothing");
    assert!(error.to_string().contains("fragile breaks on b\"192.0.2.10/24#"), "{error}");
}
