//! The types that streams may carry. The list is finite because wasmtime lifts and lowers elements by a type that is chosen at
//! compile time; [`crate::words::schema::Function::callable`] lets exactly these through.

use wasmtime::AsContextMut;
use wasmtime::component::{ComponentType, Lift, Lower, StreamReader, Val};

use super::guest::Guest;
use crate::words::schema::{Function, Type};

/// An element type of streams.
pub(super) trait Element: ComponentType + Lift + Lower + Unpin + Send + Sync + 'static {
    /// As a dynamic value.
    fn into_val(self) -> Val;
    /// From a dynamic value of the same type.
    fn from_val(val: Val) -> Option<Self>;
}

macro_rules! elements {
    ($($rust:ty => $val:ident),+ $(,)?) => {
        $(impl Element for $rust {
            fn into_val(self) -> Val {
                Val::$val(self)
            }

            fn from_val(val: Val) -> Option<Self> {
                match val {
                    Val::$val(value) => Some(value),
                    _ => None,
                }
            }
        })+
    };
}

elements! {
    bool => Bool, u8 => U8, u16 => U16, u32 => U32, u64 => U64, i8 => S8, i16 => S16, i32 => S32, i64 => S64,
    f32 => Float32, f64 => Float64, char => Char, String => String,
}

impl Element for Vec<u8> {
    fn into_val(self) -> Val {
        Val::List(self.into_iter().map(Val::U8).collect())
    }

    fn from_val(val: Val) -> Option<Self> {
        let Val::List(items) = val else { return None };
        items.into_iter().map(u8::from_val).collect()
    }
}

impl<T: Element> Element for Option<T> {
    fn into_val(self) -> Val {
        Val::Option(self.map(|value| Box::new(value.into_val())))
    }

    fn from_val(val: Val) -> Option<Self> {
        match val {
            Val::Option(None) => Some(None),
            Val::Option(Some(value)) => T::from_val(*value).map(Some),
            _ => None,
        }
    }
}

/// Calls a generic function with the Rust type of an element type.
macro_rules! with_element {
    ($element:expr, $function:ident ( $($argument:expr),* $(,)? )) => {{
        use $crate::words::schema::Type;
        macro_rules! pick {
            ($pattern_source:expr, $wrap:ident, $otherwise:expr) => {
                match $pattern_source {
                    Type::Bool => $function::<$wrap!(bool)>($($argument),*),
                    Type::U8 => $function::<$wrap!(u8)>($($argument),*),
                    Type::U16 => $function::<$wrap!(u16)>($($argument),*),
                    Type::U32 => $function::<$wrap!(u32)>($($argument),*),
                    Type::U64 => $function::<$wrap!(u64)>($($argument),*),
                    Type::S8 => $function::<$wrap!(i8)>($($argument),*),
                    Type::S16 => $function::<$wrap!(i16)>($($argument),*),
                    Type::S32 => $function::<$wrap!(i32)>($($argument),*),
                    Type::S64 => $function::<$wrap!(i64)>($($argument),*),
                    Type::F32 => $function::<$wrap!(f32)>($($argument),*),
                    Type::F64 => $function::<$wrap!(f64)>($($argument),*),
                    Type::Char => $function::<$wrap!(char)>($($argument),*),
                    Type::String => $function::<$wrap!(String)>($($argument),*),
                    Type::List(_) => $function::<$wrap!(Vec<u8>)>($($argument),*),
                    _ => $otherwise,
                }
            };
        }
        macro_rules! plain { ($rust:ty) => { $rust }; }
        macro_rules! optional { ($rust:ty) => { Option<$rust> }; }
        let unsupported = || Err(wasmtime::Error::msg("unsupported stream element"));
        match $element {
            Type::Option(inner) => pick!(&**inner, optional, unsupported()),
            element => pick!(element, plain, unsupported()),
        }
    }};
}
pub(super) use with_element;

/// Turns the lists that were given for stream parameters into streams.
pub(super) fn carry_in(
    mut store: impl AsContextMut<Data = Guest>,
    function: &Function,
    arguments: &mut [Val],
) -> wasmtime::Result<()> {
    for (param, argument) in function.params.iter().zip(arguments) {
        if let Type::Stream(Some(element)) = &param.ty {
            let Val::List(items) = std::mem::replace(argument, Val::Bool(false)) else {
                return Err(wasmtime::Error::msg("a stream argument is a list of items"));
            };
            *argument = with_element!(&**element, stream_of(&mut store, items))?;
        }
    }
    Ok(())
}

fn stream_of<T: Element>(store: impl AsContextMut<Data = Guest>, items: Vec<Val>) -> wasmtime::Result<Val> {
    let mut store = store;
    let items: Option<Vec<T>> = items.into_iter().map(T::from_val).collect();
    let items = items.ok_or_else(|| wasmtime::Error::msg("a stream's item has another type"))?;
    let reader = StreamReader::new(&mut store, items)?;
    Ok(Val::Stream(reader.try_into_stream_any(&mut store)?))
}
