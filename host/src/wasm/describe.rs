//! From the engine's types to plain descriptions of functions.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem, Type as WasmType};
use wasmtime::component::{Component, ResourceType};

use crate::words::schema::{Case, Field, Function, Type};

/// Most types and names in the description of one function, counted with repetition. Types are stored shared but
/// described as a tree, so a component of a few kilobytes could ask for a million; real functions stay below a few hundred.
const TYPES_MAX: usize = 10_000;
/// The same over all functions of a component: it may export thousands.
pub(super) const TYPES_ALL: usize = 100_000;
/// Bytes of a name that count as one type: names are copied with each repetition, and one may have 100 KB.
const NAME_BYTES: usize = 16;
/// Stands for what is beyond [`TYPES_MAX`]; makes the function one that cannot be called.
const TOO_LARGE: &str = "type-too-large";
/// Stands for the name of a resource that nothing exported or imported names.
const UNNAMED: &str = "resource";

/// A function that a component exports, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Interface of the function, for example `demo:math/ops@0.1.0`; `None` for a function of the world itself.
    pub interface: Option<String>,
    /// What it takes and answers.
    pub function: Function,
}

/// Describes one function. Its resources have no names here; see [`exported_functions`].
pub fn function(name: &str, ty: &ComponentFunc) -> Function {
    describe(name, ty, &[], &mut { TYPES_ALL })
}

/// Every function that the component exports, by itself or in an interface, in the order of the exports.
pub fn exported_functions(component: &Component, engine: &Engine) -> Vec<Export> {
    let ty = component.component_type();
    let names = resource_names(&ty, engine);
    let mut left = TYPES_ALL;
    let mut exports = Vec::new();
    for (name, export) in ty.exports(engine) {
        match export.ty {
            ComponentItem::ComponentFunc(ty) => {
                exports.push(Export { interface: None, function: describe(name, &ty, &names, &mut left) });
            }
            ComponentItem::ComponentInstance(instance) => {
                for (function, item) in instance.exports(engine) {
                    if let ComponentItem::ComponentFunc(ty) = item.ty {
                        let function = describe(function, &ty, &names, &mut left);
                        exports.push(Export { interface: Some(name.to_owned()), function });
                    }
                }
            }
            _ => {}
        }
    }
    exports
}

/// What an imported interface has.
pub struct Interface {
    /// Its functions, those of its resources included.
    pub functions: Vec<Function>,
    /// Names of its resources.
    pub resources: Vec<String>,
}

/// Describes an imported interface with what is left of a number of types.
pub fn interface(instance: &ComponentInstance, engine: &Engine, left: &mut usize) -> Interface {
    let mut interface = Interface { functions: Vec::new(), resources: Vec::new() };
    for (name, item) in instance.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(ty) => interface.functions.push(describe(name, &ty, &[], left)),
            ComponentItem::Resource(_) => interface.resources.push(name.to_owned()),
            _ => {}
        }
    }
    interface
}

/// Names under which resources are imported and exported. A type alone does not carry its name.
fn resource_names(
    ty: &wasmtime::component::types::Component,
    engine: &Engine,
) -> Vec<(ResourceType, String)> {
    let mut names = Vec::new();
    for (name, item) in ty.imports(engine).chain(ty.exports(engine)) {
        match item.ty {
            ComponentItem::Resource(resource) => names.push((resource, name.to_owned())),
            ComponentItem::ComponentInstance(instance) => {
                for (name, item) in instance.exports(engine) {
                    if let ComponentItem::Resource(resource) = item.ty {
                        names.push((resource, name.to_owned()));
                    }
                }
            }
            _ => {}
        }
    }
    names
}

fn describe(
    name: &str,
    ty: &ComponentFunc,
    names: &[(ResourceType, String)],
    all_left: &mut usize,
) -> Function {
    let given = TYPES_MAX.min(*all_left);
    let mut describer = Describer { names, left: given };
    let function = Function {
        name: name.to_owned(),
        params: ty
            .params()
            .map(|(name, ty)| Field { name: name.to_owned(), ty: describer.ty(&ty) })
            .collect(),
        result: ty.results().next().map(|ty| describer.ty(&ty)),
        is_async: ty.async_(),
        docs: None,
    };
    *all_left -= given - describer.left;
    function
}

/// Describes types until a number of them is used up. The engine bounds their depth.
struct Describer<'a> {
    names: &'a [(ResourceType, String)],
    left: usize,
}

impl Describer<'_> {
    fn ty(&mut self, ty: &WasmType) -> Type {
        let names = match ty {
            WasmType::Record(record) => record.fields().map(|field| cost(field.name)).sum(),
            WasmType::Tuple(tuple) => tuple.types().len(),
            WasmType::Variant(variant) => variant.cases().map(|case| cost(case.name)).sum(),
            WasmType::Enum(names) => names.names().map(cost).sum(),
            WasmType::Flags(names) => names.names().map(cost).sum(),
            _ => 0,
        };
        let Some(left) = self.left.checked_sub(1 + names) else {
            self.left = 0;
            return Type::Unsupported(TOO_LARGE.to_owned());
        };
        self.left = left;
        match ty {
            WasmType::Bool => Type::Bool,
            WasmType::S8 => Type::S8,
            WasmType::U8 => Type::U8,
            WasmType::S16 => Type::S16,
            WasmType::U16 => Type::U16,
            WasmType::S32 => Type::S32,
            WasmType::U32 => Type::U32,
            WasmType::S64 => Type::S64,
            WasmType::U64 => Type::U64,
            WasmType::Float32 => Type::F32,
            WasmType::Float64 => Type::F64,
            WasmType::Char => Type::Char,
            WasmType::String => Type::String,
            WasmType::List(list) => Type::List(Box::new(self.ty(&list.ty()))),
            WasmType::Record(record) => Type::Record(
                record
                    .fields()
                    .map(|field| Field { name: field.name.to_owned(), ty: self.ty(&field.ty) })
                    .collect(),
            ),
            WasmType::Tuple(tuple) => Type::Tuple(tuple.types().map(|ty| self.ty(&ty)).collect()),
            WasmType::Variant(variant) => Type::Variant(
                variant
                    .cases()
                    .map(|case| Case { name: case.name.to_owned(), ty: self.optional(case.ty) })
                    .collect(),
            ),
            WasmType::Enum(names) => Type::Enum(names.names().map(str::to_owned).collect()),
            WasmType::Flags(names) => Type::Flags(names.names().map(str::to_owned).collect()),
            WasmType::Option(option) => Type::Option(Box::new(self.ty(&option.ty()))),
            WasmType::Result(result) => Type::Result {
                ok: self.optional(result.ok()).map(Box::new),
                err: self.optional(result.err()).map(Box::new),
            },
            WasmType::Stream(stream) => Type::Stream(self.optional(stream.ty()).map(Box::new)),
            WasmType::Future(future) => Type::Future(self.optional(future.ty()).map(Box::new)),
            WasmType::Own(resource) => Type::Resource(format!("own<{}>", self.resource(resource))),
            WasmType::Borrow(resource) => Type::Resource(format!("borrow<{}>", self.resource(resource))),
            WasmType::ErrorContext => Type::Unsupported("error-context".to_owned()),
            WasmType::Map(map) => {
                Type::Unsupported(format!("map<{}, {}>", self.ty(&map.key()), self.ty(&map.value())))
            }
            WasmType::FixedLengthList(list) => {
                Type::Unsupported(format!("list<{}, {}>", self.ty(&list.ty()), list.len()))
            }
        }
    }

    fn optional(&mut self, ty: Option<WasmType>) -> Option<Type> {
        ty.map(|ty| self.ty(&ty))
    }

    fn resource(&self, resource: &ResourceType) -> &str {
        self.names.iter().find(|(known, _)| known == resource).map_or(UNNAMED, |(_, name)| name)
    }
}

/// What a name counts.
fn cost(name: &str) -> usize {
    1 + name.len() / NAME_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles a component from its text.
    fn component(text: &str) -> (Component, Engine) {
        let engine = Engine::default();
        let component = Component::new(&engine, text).unwrap();
        (component, engine)
    }

    fn signatures(text: &str) -> Vec<(Option<String>, String)> {
        let (component, engine) = component(text);
        exported_functions(&component, &engine)
            .into_iter()
            .map(|export| (export.interface, export.function.signature()))
            .collect()
    }

    /// Describes the function that a component imports as `host`: the shortest text that has a function of any type.
    fn import(text: &str) -> Function {
        let (component, engine) = component(text);
        match component.component_type().get_import(&engine, "host").unwrap().ty {
            ComponentItem::ComponentFunc(ty) => function("host", &ty),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn functions_of_the_world_and_of_interfaces_are_found() {
        let found = signatures(
            r#"(component
                (core module $m
                    (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
                    (func (export "nop")))
                (core instance $i (instantiate $m))
                (func $add (param "x" s64) (param "y" s64) (result s64) (canon lift (core func $i "add")))
                (func $nop (canon lift (core func $i "nop")))
                (export "add" (func $add))
                (instance $ops (export "nop" (func $nop)) (export "plus" (func $add)))
                (export "demo:math/ops@0.1.0" (instance $ops)))"#,
        );
        let ops = || Some("demo:math/ops@0.1.0".to_owned());
        assert_eq!(
            found,
            [
                (None, "add(x: s64, y: s64) -> s64".to_owned()),
                (ops(), "nop()".to_owned()),
                (ops(), "plus(x: s64, y: s64) -> s64".to_owned()),
            ]
        );
    }

    #[test]
    fn every_type_is_described() {
        for text in [
            "bool",
            "s8",
            "u8",
            "s16",
            "u16",
            "s32",
            "u32",
            "s64",
            "u64",
            "f32",
            "f64",
            "char",
            "string",
            "(list u8)",
            "(tuple s64 (option string))",
            "(result)",
            "(result s64)",
            "(result (error string))",
            "(result s64 (error string))",
            "(stream u8)",
            "(stream)",
            "(future)",
            "(future (result (error string)))",
            "(enum \"red\" \"green\")",
            "(flags \"a\" \"b\")",
            "(record (field \"x\" s64) (field \"y-z\" (list f32)))",
            "(variant (case \"dot\") (case \"circle\" f64))",
        ] {
            let expect = text_of(text);
            let imported = import(&format!(
                r#"(component
                    (type $t {text})
                    (import "t" (type $e (eq $t)))
                    (import "host" (func (param "x" $e))))"#
            ));
            assert_eq!(imported.params[0].ty, expect.parse().unwrap(), "{text}");
        }
    }

    /// The type that a component text means, in WIT.
    fn text_of(text: &str) -> &str {
        match text {
            "(list u8)" => "list<u8>",
            "(tuple s64 (option string))" => "tuple<s64, option<string>>",
            "(result)" => "result",
            "(result s64)" => "result<s64>",
            "(result (error string))" => "result<_, string>",
            "(result s64 (error string))" => "result<s64, string>",
            "(stream u8)" => "stream<u8>",
            "(stream)" => "stream",
            "(future)" => "future",
            "(future (result (error string)))" => "future<result<_, string>>",
            "(enum \"red\" \"green\")" => "enum{red, green}",
            "(flags \"a\" \"b\")" => "flags{a, b}",
            "(record (field \"x\" s64) (field \"y-z\" (list f32)))" => "record{x: s64, y-z: list<f32>}",
            "(variant (case \"dot\") (case \"circle\" f64))" => "variant{dot, circle(f64)}",
            other => other,
        }
    }

    #[test]
    fn resources_carry_their_names() {
        let found = signatures(
            r#"(component
                (core module $m
                    (func (export "open") (result i32) (i32.const 0))
                    (func (export "size") (param i32) (result i64) (i64.const 0)))
                (core instance $i (instantiate $m))
                (type $rep (resource (rep i32)))
                (export $file "file" (type $rep))
                (func (export "open") (result (own $file)) (canon lift (core func $i "open")))
                (func (export "[method]file.size") (param "self" (borrow $file)) (result u64)
                    (canon lift (core func $i "size"))))"#,
        );
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["open() -> own<file>", "[method]file.size(self: borrow<file>) -> u64"]);
    }

    #[test]
    fn a_type_that_explodes_is_cut_off() {
        let mut doubled = String::from("(type $t0 (tuple u8 u8))");
        for level in 1..=16 {
            let below = level - 1;
            doubled.push_str(&format!("(type $t{level} (tuple $t{below} $t{below}))"));
        }
        let names: String = (0..1000).map(|n| format!(" \"n{n}\"")).collect();
        let named = format!(
            r#"(type $n (enum{names})) (import "n" (type $e (eq $n))) (type $t16 (tuple {}))"#,
            "$e ".repeat(100)
        );
        for types in [doubled, named] {
            let imported = import(&format!(r#"(component {types} (import "host" (func (param "x" $t16))))"#));
            assert!(imported.callable().unwrap_err().contains(TOO_LARGE));
        }
    }
}
