//! How long many things took, in a fixed amount of memory.

/// Buckets of each power of two: a value is told at most 1/16 too high.
const PARTS: u64 = 16;
/// Binary digits of [`PARTS`].
const DIGITS: u32 = 4;
/// Buckets for every number of 64 bits.
const BUCKETS: usize = 16 * (64 - DIGITS as usize + 1);

/// Times by their size.
#[derive(Clone, Debug)]
pub struct Latency {
    counts: Vec<u64>,
    all: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], all: 0 }
    }
}

impl Latency {
    /// Counts one.
    pub fn add(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
            self.all += 1;
        }
    }

    /// What so many thousandths of them took at most; 0 when there are none.
    pub fn quantile(&self, thousandths: u64) -> u64 {
        let rank = (self.all * thousandths).div_ceil(1000).max(1);
        let mut passed = 0;
        for (at, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed >= rank {
                return most(at);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    if value < PARTS {
        return usize::try_from(value).unwrap_or_default();
    }
    // The leading digits, and how many there are behind them.
    let behind = value.ilog2() - DIGITS;
    let leading = (value >> behind) - PARTS;
    usize::try_from(u64::from(behind + 1) * PARTS + leading).unwrap_or(BUCKETS)
}

/// The largest value of a bucket.
fn most(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let (behind, leading) = (bucket / PARTS - 1, bucket % PARTS + PARTS);
    let next = u128::from(leading + 1) << behind;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_as_it_is_or_a_sixteenth_too_high() {
        let mut values: Vec<u64> = (0..64).flat_map(|shift| [1_u64 << shift, (1 << shift) + 3]).collect();
        values.extend([0, 7, 15, 16, 17, 31, 32, 999, 1_000_000, u64::MAX - 1, u64::MAX]);
        for value in values {
            let told = most(bucket(value));
            assert!(told >= value && told - value <= value / 16, "{value} is told as {told}");
            assert!(bucket(value) < BUCKETS);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(500), 0);
        for value in 1..=100 {
            latency.add(value * 1000);
        }
        for (thousandths, value) in [(0, 1_000), (500, 50_000), (990, 99_000), (1000, 100_000)] {
            let told = latency.quantile(thousandths);
            assert!(told >= value && told <= value + value / 16, "{thousandths}: {told}, not {value}");
        }
    }
}
