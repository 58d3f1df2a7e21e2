//! The one random generator: Philox4x32-10, counter-based (Salmon et al., SC 2011).
//!
//! A stream is named by what it is for, never by when it runs, so results do not depend on batch, thread or order.

/// A stream of random numbers: a 64-bit key and a 128-bit counter.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u32; 2],
    block: u64,
    ready: [u32; 4],
    used: usize,
}

const MULTIPLY: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox4x32 over one counter.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let a = u64::from(MULTIPLY[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLY[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// A number in [0, 1) with 24 bits, exact in f32.
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

impl Stream {
    /// The stream with this key.
    pub fn new(key: u64) -> Self {
        Self { key: [key as u32, (key >> 32) as u32], block: 0, ready: [0; 4], used: 4 }
    }

    /// The number that belongs to `position`, in [0, 1): the same whatever was drawn before.
    pub fn at(key: u64, position: u64) -> f32 {
        let counter = [position as u32, (position >> 32) as u32, 0, 0];
        unit(philox(counter, [key as u32, (key >> 32) as u32])[0])
    }

    /// The next 32 bits.
    pub fn next_word(&mut self) -> u32 {
        if self.used == 4 {
            self.ready = philox([self.block as u32, (self.block >> 32) as u32, 0, 0], self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.ready[self.used - 1]
    }

    /// The next number in [0, 1), 24 bits.
    pub fn next_unit(&mut self) -> f32 {
        unit(self.next_word())
    }

    /// A whole number below `bound`, unbiased. `bound` 0 gives 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        if bound == 0 {
            return 0;
        }
        loop {
            let product = u64::from(self.next_word()) * u64::from(bound);
            // Lemire's rejection: the low half is uniform but for a few values.
            if (product as u32) >= bound.wrapping_neg() % bound {
                return (product >> 32) as u32;
            }
        }
    }

    /// One of the items; `None` of an empty slice.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u32) as usize)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.next_unit() < probability
    }

    /// A number from the standard normal distribution (Box-Muller, f64 inside).
    pub fn normal(&mut self) -> f32 {
        let u = (f64::from(self.next_word()) + 1.0) / 4_294_967_297.0;
        let v = f64::from(self.next_word()) / 4_294_967_296.0;
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u32 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// The key of a generator that needs only a name and an index, such as a task's row generator (FNV-1a, then mixed).
pub fn key(name: &str, index: u64) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes().chain(index.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_vectors() {
        // Known-answer tests of Random123 (kat_vectors, philox4x32 10).
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn below_stays_below_and_covers() {
        let mut stream = Stream::new(7);
        let mut seen = [0u32; 6];
        for _ in 0..6000 {
            seen[stream.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!(stream.below(0), 0);
    }

    #[test]
    fn a_position_does_not_depend_on_what_was_drawn_before() {
        assert_eq!(Stream::at(3, 9), Stream::at(3, 9));
        assert_ne!(Stream::at(3, 9), Stream::at(3, 10));
        assert_ne!(Stream::at(3, 9), Stream::at(4, 9));
    }
}
