//! Reads the text form of types back.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Case, Field, NESTING_MAX, Type};
use crate::words::fault::{Code, Fault};
use crate::words::id::clip;

impl Serialize for Type {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Type {
    type Err = Fault;

    /// Reads what `Display` writes. A word that is no type of the mapping is read as unsupported.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let bad = || Fault::new(Code::Protocol, format!("not a type: {:?}", clip(text)));
        let mut parser = Parser { rest: text };
        let ty = parser.ty(0).ok_or_else(bad)?;
        if parser.rest.trim().is_empty() { Ok(ty) } else { Err(bad()) }
    }
}

/// What of the text is still to be read. Every method answers `None` where the text is not a type.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn ty(&mut self, depth: usize) -> Option<Type> {
        if depth > NESTING_MAX {
            return None;
        }
        let start = self.rest.trim_start();
        Some(match self.word()? {
            "bool" => Type::Bool,
            "s8" => Type::S8,
            "u8" => Type::U8,
            "s16" => Type::S16,
            "u16" => Type::U16,
            "s32" => Type::S32,
            "u32" => Type::U32,
            "s64" => Type::S64,
            "u64" => Type::U64,
            "f32" => Type::F32,
            "f64" => Type::F64,
            "char" => Type::Char,
            "string" => Type::String,
            "list" => return self.list(start, depth),
            "option" => Type::Option(Box::new(self.argument(depth)??)),
            "tuple" => Type::Tuple(self.sequence('<', '>', |parser| parser.ty(depth + 1))?),
            "record" => Type::Record(self.sequence('{', '}', |parser| parser.field(depth + 1))?),
            "variant" => Type::Variant(self.sequence('{', '}', |parser| parser.case(depth + 1))?),
            "enum" => Type::Enum(self.sequence('{', '}', |parser| parser.word().map(str::to_owned))?),
            "flags" => Type::Flags(self.sequence('{', '}', |parser| parser.word().map(str::to_owned))?),
            "result" => self.result(depth)?,
            "stream" => Type::Stream(self.argument(depth)?.map(Box::new)),
            "future" => Type::Future(self.argument(depth)?.map(Box::new)),
            "own" | "borrow" => Type::Resource(self.raw(start)?),
            _ => Type::Unsupported(self.raw(start)?),
        })
    }

    /// `list<T>`. A list of fixed length has a number too, and no place in the mapping.
    fn list(&mut self, start: &'a str, depth: usize) -> Option<Type> {
        self.token('<')?;
        let element = self.ty(depth + 1)?;
        if self.token('>').is_some() {
            return Some(Type::List(Box::new(element)));
        }
        Some(Type::Unsupported(self.raw(start)?))
    }

    /// `result`, `result<T>`, `result<_, E>` or `result<T, E>`.
    fn result(&mut self, depth: usize) -> Option<Type> {
        if !self.rest.trim_start().starts_with('<') {
            return Some(Type::Result { ok: None, err: None });
        }
        let mut sides = self.sequence('<', '>', |parser| {
            if parser.token('_').is_some() { Some(None) } else { parser.ty(depth + 1).map(Some) }
        })?;
        let err = if sides.len() == 2 { sides.pop()? } else { None };
        let ok = sides.pop()?;
        if !sides.is_empty() {
            return None;
        }
        Some(Type::Result { ok: ok.map(Box::new), err: err.map(Box::new) })
    }

    /// `<T>`, or nothing.
    fn argument(&mut self, depth: usize) -> Option<Option<Type>> {
        if self.token('<').is_none() {
            return Some(None);
        }
        let ty = self.ty(depth + 1)?;
        self.token('>')?;
        Some(Some(ty))
    }

    fn field(&mut self, depth: usize) -> Option<Field> {
        let name = self.word()?.to_owned();
        self.token(':')?;
        Some(Field { name, ty: self.ty(depth)? })
    }

    fn case(&mut self, depth: usize) -> Option<Case> {
        let name = self.word()?.to_owned();
        if self.token('(').is_none() {
            return Some(Case { name, ty: None });
        }
        let ty = self.ty(depth)?;
        self.token(')')?;
        Some(Case { name, ty: Some(ty) })
    }

    /// Parts with commas between them, in brackets.
    fn sequence<T>(
        &mut self,
        open: char,
        close: char,
        mut part: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.token(open)?;
        let mut parts = Vec::new();
        while self.token(close).is_none() {
            if !parts.is_empty() {
                self.token(',')?;
            }
            parts.push(part(self)?);
        }
        Some(parts)
    }

    fn token(&mut self, token: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn word(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(text.len());
        let (word, rest) = text.split_at_checked(end)?;
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The text from `start` to the end of the type that begins there, with its brackets.
    fn raw(&mut self, start: &'a str) -> Option<String> {
        let mut open = 0_usize;
        let end = start.find(|c: char| match c {
            '<' | '{' | '(' => {
                open += 1;
                false
            }
            '>' | '}' | ')' if open > 0 => {
                open -= 1;
                false
            }
            '>' | '}' | ')' => true,
            ',' => open == 0,
            _ => false,
        });
        let (text, rest) = start.split_at_checked(end.unwrap_or(start.len()))?;
        self.rest = rest;
        (open == 0).then(|| text.trim_end().to_owned())
    }
}
