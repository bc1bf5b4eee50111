//! A till in Rust, with the standard library of `wasm32-wasip2`.

wit_bindgen::generate!({ path: "../wit" });

use exports::tests::foreign::till::{Bill, Guest, Item};

struct Till;

impl Guest for Till {
    fn add_up(items: Vec<Item>) -> Result<Bill, String> {
        if items.is_empty() {
            return Err("nothing to add up".to_owned());
        }
        let total = items.iter().map(|item| item.price).sum();
        let names = items.iter().map(|item| item.name.clone()).collect();
        let dearest = items.into_iter().max_by(|a, b| a.price.total_cmp(&b.price));
        Ok(Bill { total, names, dearest })
    }

    fn fail(text: String) -> String {
        panic!("{text}")
    }
}

export!(Till);
