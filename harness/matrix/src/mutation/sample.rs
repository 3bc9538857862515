//! A random sample of the mutants. The same seed gives the same sample, in whatever order the mutants are.

use sha2::{Digest as _, Sha256};

use super::Mutant;

/// Keeps `count` of these mutants, in their order.
pub fn sample(mutants: Vec<Mutant>, count: usize, seed: u64) -> Vec<Mutant> {
    let draw = |mutant: &Mutant| -> [u8; 32] {
        let of_seed = Sha256::new().chain_update(seed.to_le_bytes());
        of_seed.chain_update(mutant.cell.name.as_str()).finalize().into()
    };
    let mut draws: Vec<[u8; 32]> = mutants.iter().map(draw).collect();
    draws.sort_unstable();
    let Some(last) = count.checked_sub(1) else { return Vec::new() };
    let Some(highest) = draws.get(last) else { return mutants };
    mutants.into_iter().filter(|mutant| draw(mutant) <= *highest).collect()
}
