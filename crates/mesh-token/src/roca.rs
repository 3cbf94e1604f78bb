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

#[cfg(test)]
mod tests {
    use super::*;

    /// 65537 to the power of 128, of 2049 bits.
    fn power() -> Vec<u8> {
        let mut number = vec![1_u32];
        for _ in 0..128 {
            // 65537 times it: two bytes further, and added.
            let mut sum = [&number[..], &[0, 0]].concat();
            for (at, byte) in number.iter().rev().enumerate() {
                let last = sum.len() - 1;
                sum[last - at] += byte;
            }
            for at in (1..sum.len()).rev() {
                sum[at - 1] += sum[at] >> 8;
                sum[at] &= 0xff;
            }
            number = sum;
        }
        let bytes: Vec<_> = number.into_iter().map(|byte| byte as u8).collect();
        bytes[bytes.iter().take_while(|byte| **byte == 0).count()..].to_vec()
    }

    #[test]
    fn roca_key_is_a_power_of_65537() {
        let mut modulus = power();
        assert_eq!(modulus.len(), 257);
        assert!(is_weak(&modulus));
        modulus[100] ^= 1;
        assert!(!is_weak(&modulus));
    }
}
