//! A set of small numbers, for the fields and oneofs of a message.

/// Allocates only for numbers beyond 255.
#[derive(Default)]
pub(crate) struct Bits {
    near: [u64; 4],
    far: Vec<u64>,
}

impl Bits {
    /// Inserts a number, and returns whether it was there.
    pub(crate) fn insert(&mut self, number: usize) -> bool {
        let word = number / 64;
        let word = match self.near.get_mut(word) {
            Some(near) => near,
            None => {
                let far = word - self.near.len();
                if far >= self.far.len() {
                    self.far.resize(far + 1, 0);
                }
                &mut self.far[far]
            }
        };
        let bit = 1 << (number % 64);
        let had = *word & bit != 0;
        *word |= bit;
        had
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_is_inserted_once() {
        let mut bits = Bits::default();
        for number in [0, 63, 64, 255, 256, 1_000, 300] {
            assert!(!bits.insert(number), "{number}");
            assert!(bits.insert(number), "{number}");
        }
    }
}
