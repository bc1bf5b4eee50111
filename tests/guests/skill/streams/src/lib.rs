//! `streams`: streams that end well, in an error, in a trap, or not at all.

use midplane_sdk::wit_bindgen::{FutureReader, StreamReader, StreamWriter, spawn_local, yield_async};

midplane_sdk::skill!(Streams);

use wasi::logging::logging::{Level, log};

struct Streams;

/// What a stream does after its numbers.
enum Then {
    End,
    Trap,
    Spin,
    Yield,
}

impl Guest for Streams {
    async fn count(n: u64) -> StreamReader<u64> {
        stream(n, Then::End)
    }

    async fn count_many(n: u64, size: u32) -> StreamReader<u64> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            let mut next = 0;
            while next < n {
                let end = n.min(next + u64::from(size.max(1)));
                if !writer.write_all((next..end).collect()).await.is_empty() {
                    return;
                }
                took(end - 1);
                next = end;
            }
        });
        reader
    }

    async fn count_then_trap(n: u64) -> StreamReader<u64> {
        stream(n, Then::Trap)
    }

    async fn count_then_spin(n: u64) -> StreamReader<u64> {
        stream(n, Then::Spin)
    }

    async fn count_then_yield(n: u64) -> StreamReader<u64> {
        stream(n, Then::Yield)
    }

    async fn trap_first() -> StreamReader<u64> {
        panic!("before there is a stream")
    }

    async fn count_or(n: u64, error: Option<String>) -> Result<StreamReader<u64>, String> {
        error.map_or_else(|| Ok(stream(n, Then::End)), Err)
    }

    async fn count_then_say(
        n: u64,
        error: Option<String>,
    ) -> (StreamReader<u64>, FutureReader<Result<(), String>>) {
        let (mut writer, reader) = wit_stream::new();
        let (say, said) = wit_future::new(|| Ok(()));
        spawn_local(async move {
            numbers(&mut writer, n).await;
            drop(writer);
            let _ = say.write(error.map_or(Ok(()), Err)).await;
        });
        (reader, said)
    }

    async fn texts(n: u32, length: u32) -> StreamReader<String> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            for _ in 0..n {
                if writer.write_one("x".repeat(length as usize)).await.is_some() {
                    return;
                }
            }
        });
        reader
    }

    async fn double(n: u64) -> u64 {
        n * 2
    }
}

fn stream(n: u64, then: Then) -> StreamReader<u64> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        numbers(&mut writer, n).await;
        match then {
            Then::End => {}
            Then::Trap => panic!("in the middle of a stream"),
            Then::Spin => loop {
                std::hint::spin_loop();
            },
            Then::Yield => loop {
                yield_async().await;
            },
        }
    });
    reader
}

async fn numbers(writer: &mut StreamWriter<u64>, n: u64) {
    for number in 0..n {
        if writer.write_one(number).await.is_some() {
            return;
        }
        took(number);
    }
}

fn took(number: u64) {
    log(Level::Info, "", &format!("took {number}"));
}
