//! Finds RSA keys of a generator whose primes can be guessed: ROCA, CVE-2017-15361.

/// The generator made each prime a power of 65537 modulo the product of many small primes, so the modulus is one, too.
/// These are the primes for which few numbers are such powers.
const PRIMES: &[u32] = &[11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Whether the modulus is a power of 65537 modulo each of the primes. Of other keys, fewer than one in a million is.
pub(crate) fn is_weak(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|&prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            power = power * (65537 % prime) % prime;
            power == rest
        })
    })
}
