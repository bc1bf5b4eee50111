//! Components that are little to read and much to compile.

use std::fmt::Write as _;

/// What makes a component.
pub type Bomb = (&'static str, fn() -> Vec<u8>);

/// All of them.
pub const BOMBS: &[Bomb] = &[
    ("many-functions", many_functions),
    ("deep-blocks", deep_blocks),
    ("long-function", long_function),
    ("wide-jumps", wide_jumps),
    ("many-values", many_values),
    ("many-locals", many_locals),
    ("many-parameters", many_parameters),
    ("many-types", many_types),
    ("many-exports", many_exports),
    ("many-functions-exported", many_functions_exported),
    ("many-imports", many_imports),
    ("many-segments", many_segments),
    ("many-modules", many_modules),
    ("many-adapters", many_adapters),
    ("instances-of-instances", instances_of_instances),
    ("components-in-components", components_in_components),
];

/// A component around a core module, with one function `run`.
fn around(module: &str) -> Vec<u8> {
    let text = format!(
        "(component (core module $m {module} (func (export \"run\")))
           (core instance $i (instantiate $m))
           (func (export \"run\") (canon lift (core func $i \"run\"))))"
    );
    wat::parse_str(text).unwrap()
}

/// The same text for each number.
fn each(count: usize, mut text: impl FnMut(&mut String, usize)) -> String {
    let mut all = String::new();
    (0..count).for_each(|number| text(&mut all, number));
    all
}

/// Very many empty functions.
fn many_functions() -> Vec<u8> {
    around(&"(func)".repeat(100_000))
}

/// One function of blocks in blocks.
fn deep_blocks() -> Vec<u8> {
    let depth = 20_000;
    around(&format!("(func {} {})", "block ".repeat(depth), "end ".repeat(depth)))
}

/// One very long function.
fn long_function() -> Vec<u8> {
    around(&format!("(func (param i64) (result i64) local.get 0 {})", "local.get 0 i64.mul ".repeat(200_000)))
}

/// One function with a jump table that leads everywhere.
fn wide_jumps() -> Vec<u8> {
    let targets = "0 ".repeat(60_000);
    around(&format!("(func (param i32) (block local.get 0 br_table {targets}))"))
}

/// Values that are all alive until the end.
fn many_values() -> Vec<u8> {
    let (push, add) = ("local.get 0 i32.load ".repeat(20_000), "i32.add ".repeat(19_999));
    around(&format!("(memory 1) (func (param i32) (result i32) {push} {add})"))
}

/// Functions with as many locals as there may be, of which none is used.
fn many_locals() -> Vec<u8> {
    let locals = "i64 ".repeat(49_000);
    around(&format!("(func (local {locals}))").repeat(20))
}

/// Functions that hand a thousand arguments on to each other.
fn many_parameters() -> Vec<u8> {
    let parameters = "i64 ".repeat(1_000);
    let arguments = each(1_000, |all, number| write!(all, "local.get {number} ").unwrap());
    let call = format!("(func (param {parameters}) {arguments} call $last)");
    around(&format!("(func $last (param {parameters})) {}", call.repeat(100)))
}

/// Very many types that nobody uses.
fn many_types() -> Vec<u8> {
    around(&each(300_000, |all, number| {
        let result = ["", "(result i32)", "(result i64)", "(result f32)"][number % 4];
        write!(all, "(type (func (param {}) {result}))", "i32 ".repeat(number % 8)).unwrap();
    }))
}

/// One function under very many names.
fn many_exports() -> Vec<u8> {
    let exports = each(90_000, |all, number| write!(all, "(export \"e{number}\" (func $f))").unwrap());
    around(&format!("(func $f) {exports}"))
}

/// One function that can be called under very many names.
fn many_functions_exported() -> Vec<u8> {
    let exports = each(20_000, |all, number| write!(all, "(export \"f{number}\" (func $f))").unwrap());
    let text = format!(
        "(component (core module $m (func (export \"run\"))) (core instance $i (instantiate $m))
           (func $f (canon lift (core func $i \"run\"))) (export \"run\" (func $f)) {exports})"
    );
    wat::parse_str(text).unwrap()
}

/// One module that imports very much of another.
fn many_imports() -> Vec<u8> {
    let exports = each(30_000, |all, number| write!(all, "(export \"f{number}\" (func $f))").unwrap());
    let imports = each(30_000, |all, number| write!(all, "(import \"a\" \"f{number}\" (func))").unwrap());
    let text = format!(
        "(component (core module $a (func $f) {exports}) (core instance $a (instantiate $a))
           (core module $m {imports} (func (export \"run\")))
           (core instance $i (instantiate $m (with \"a\" (instance $a))))
           (func (export \"run\") (canon lift (core func $i \"run\"))))"
    );
    wat::parse_str(text).unwrap()
}

/// Very many pieces of data, and of a table.
fn many_segments() -> Vec<u8> {
    let (data, elements) = ("(data \"x\")".repeat(90_000), "(elem func $f)".repeat(90_000));
    around(&format!("(memory 1) (func $f) {data} {elements}"))
}

/// Very many modules, all of them alike but for a number.
fn many_modules() -> Vec<u8> {
    let modules = each(900, |all, number| {
        write!(all, "(core module (func (export \"f\") (result i32) (i32.const {number})))").unwrap();
    });
    let text = format!(
        "(component {modules} (core module $m (func (export \"run\"))) (core instance $i (instantiate $m))
           (func (export \"run\") (canon lift (core func $i \"run\"))))"
    );
    wat::parse_str(text).unwrap()
}

/// Two components that hand each other records of two hundred parts, in two hundred ways.
fn many_adapters() -> Vec<u8> {
    const COUNT: usize = 200;
    let fields = each(COUNT, |all, number| {
        write!(all, "(field \"f{number}\" (tuple u8 string u64 (list u16)))").unwrap();
    });
    let memory = "(memory (core memory $i \"memory\")) (realloc (core func $i \"realloc\"))";
    let lifted = each(COUNT, |all, number| {
        let lift = format!("(canon lift (core func $i \"f\") {memory})");
        write!(all, "(func (export \"f{number}\") (param \"x\" $t) {lift})").unwrap();
    });
    let wanted = each(COUNT, |all, number| {
        write!(all, "(export \"f{number}\" (func (param \"x\" $t)))").unwrap();
    });
    let lowered = each(COUNT, |all, number| {
        let memory = "(memory (core memory $memory \"memory\"))";
        write!(all, "(core func $g{number} (canon lower (func $first \"f{number}\") {memory}))").unwrap();
    });
    let imports = each(COUNT, |all, number| {
        write!(all, "(import \"first\" \"f{number}\" (func (param i32)))").unwrap();
    });
    let given = each(COUNT, |all, number| write!(all, "(export \"f{number}\" (func $g{number}))").unwrap());
    let text = format!(
        "(component
           (component $first
             (type $record (record {fields}))
             (export $t \"t\" (type $record))
             (core module $m
               (memory (export \"memory\") 1)
               (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) unreachable)
               (func (export \"f\") (param i32)))
             (core instance $i (instantiate $m))
             {lifted})
           (instance $first (instantiate $first))
           (component $second
             (import \"first\" (instance $first
               (type $record (record {fields}))
               (export \"t\" (type $t (eq $record)))
               {wanted}))
             (core module $memory (memory (export \"memory\") 1))
             (core instance $memory (instantiate $memory))
             {lowered}
             (core module $m {imports} (func (export \"run\")))
             (core instance $i (instantiate $m (with \"first\" (instance {given}))))
             (func (export \"run\") (canon lift (core func $i \"run\"))))
           (instance $second (instantiate $second (with \"first\" (instance $first))))
           (export \"run\" (func $second \"run\")))"
    );
    wat::parse_str(text).unwrap()
}

/// Each component makes two instances of the one before: a billion in the end.
fn instances_of_instances() -> Vec<u8> {
    let levels = each(30, |all, level| {
        let below = format!("(alias outer 1 $c{level} (component $below))");
        let two = "(instance (instantiate $below)) (instance (instantiate $below))";
        write!(all, "(component $c{} {below} {two})", level + 1).unwrap();
    });
    let text = format!(
        "(component
           (component $c0 (core module $m (func (export \"run\"))) (core instance (instantiate $m)))
           {levels} (instance (instantiate $c30))
           (core module $m (func (export \"run\"))) (core instance $i (instantiate $m))
           (func (export \"run\") (canon lift (core func $i \"run\"))))"
    );
    wat::parse_str(text).unwrap()
}

/// Components in components, far deeper than anybody would write them: what validates them looks at all around each. In bytes, because a
/// reader of text would not go so deep.
fn components_in_components() -> Vec<u8> {
    const HEAD: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    const COMPONENT: u8 = 4;
    let mut inner = HEAD.to_vec();
    for _ in 0..10_000 {
        let mut outer = HEAD.to_vec();
        outer.push(COMPONENT);
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&inner);
        inner = outer;
    }
    inner
}
