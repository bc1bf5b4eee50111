//! `echo`: what goes in comes out, for every type of the mapping.

midplane_sdk::skill!(Echo);

use exports::tests::echo::ops::{Colour, Guest, Nested, Rights, Scalars, Shape};

struct Echo;

/// Functions of one parameter that answer with it.
macro_rules! echo {
    ($($name:ident: $ty:ty),+ $(,)?) => {
        $(fn $name(x: $ty) -> $ty {
            x
        })+
    };
}

type Units = (Result<(), ()>, Result<u8, ()>, Result<(), String>);

impl Guest for Echo {
    echo! {
        echo_scalars: Scalars, echo_colour: Colour, echo_rights: Rights, echo_shape: Shape, echo_bytes: Vec<u8>,
        echo_text: String, echo_float: f64, echo_lists: Vec<Vec<i16>>, echo_option: Option<String>,
        echo_options: Option<Option<u8>>, echo_results: Vec<Result<u8, String>>, echo_units: Units,
        echo_nested: Nested, echo_outcome: Result<u8, Shape>,
    }

    fn nothing(_: Option<u8>) {}
}
