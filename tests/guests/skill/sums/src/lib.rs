//! `sums`: async and other functions of an interface that a name satisfies.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

midplane_sdk::skill!(Sums);

use tests::sums::ops;

struct Sums;

impl Guest for Sums {
    async fn sums_of(numbers: Vec<i64>) -> (Vec<i64>, i64) {
        let sums = all(numbers.windows(2).map(|pair| ops::add(pair[0], pair[1]))).await;
        let product = sums.iter().fold(1, |product, sum| ops::multiply(product, *sum));
        (sums, product)
    }
}

/// Waits for all of them at the same time.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<(Pin<Box<F>>, Option<F::Output>)> =
        futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}
