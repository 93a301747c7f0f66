//! Proof that the simulation's checks see something: with any one rule switched off, some seed fails.

#[path = "simulation/mod.rs"]
#[allow(dead_code, reason = "the example and the other test use the rest")]
mod simulation;

use simulation::mutants::Mutant;
use simulation::world;

/// Within so many seeds each mutant must be caught.
const SEEDS: u64 = 400;

#[test]
fn every_mutant_is_caught() {
    let mut survivors = Vec::new();
    for mutant in Mutant::ALL {
        match (0..SEEDS).find_map(|seed| world::run_mutant(seed, *mutant).err().map(|failed| (seed, failed))) {
            Some((seed, failed)) => println!("{mutant:?}: seed {seed}: {}", failed.violation.rule),
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "the checks saw nothing of {survivors:?} in {SEEDS} seeds");
}
