//! `math2`: a skill that answers with a stream.

use midplane_sdk::wit_bindgen::{StreamReader, spawn_local};

midplane_sdk::skill!(Math2);

struct Math2;

impl Guest for Math2 {
    async fn fib_stream(n: u32) -> StreamReader<u64> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            for number in fibonacci().take(n as usize) {
                // What comes back was not taken: nobody reads any more.
                if writer.write_one(number).await.is_some() {
                    return;
                }
            }
        });
        reader
    }
}

/// The Fibonacci numbers that fit into 64 bits; there are 94.
fn fibonacci() -> impl Iterator<Item = u64> {
    let pairs = std::iter::successors(Some((0_u64, Some(1_u64))), |&(this, next)| {
        next.map(|next| (next, this.checked_add(next)))
    });
    pairs.map(|(this, _)| this)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_zero_and_ends_with_the_last_that_fits() {
        assert_eq!(fibonacci().take(10).collect::<Vec<_>>(), [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]);
        assert_eq!(fibonacci().count(), 94);
        assert_eq!(fibonacci().last(), Some(12_200_160_415_121_876_738));
    }
}
