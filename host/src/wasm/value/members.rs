//! Reads what has names: the fields of a record, the parameters of a function.

use std::collections::BTreeSet;

use minicbor::Decoder;
use minicbor::data::Type as CborType;
use wasmtime::component::Val;

use super::wrong::Wrongs;
use crate::words::cbor::{self, Items};
use crate::words::schema::{Field, Type};

/// Reads members by name or by position into the order of `fields`, each by `read`. All that do not fit are told.
pub(super) fn members<'b>(
    decoder: &mut Decoder<'b>,
    fields: &[Field],
    read: impl FnMut(&mut Decoder<'b>, &Field) -> Result<Val, Wrongs>,
) -> Result<Vec<Val>, Wrongs> {
    let vals = Vec::with_capacity(fields.len());
    let mut members = Members { vals, holes: BTreeSet::new(), fields, wrongs: Wrongs::default(), read };
    match decoder.datatype()? {
        CborType::Map | CborType::MapIndef => members.by_name(decoder)?,
        CborType::Array | CborType::ArrayIndef => members.by_position(decoder)?,
        _ => return Err(Wrongs::malformed("they are neither a map nor a list")),
    }
    members.finish()
}

/// The members that were read so far.
struct Members<'a, R> {
    /// In the order of the fields. Those that did not fit or have not come stand as none.
    vals: Vec<Val>,
    /// Which of `vals` have not come. Empty, and without an allocation, while members come in order.
    holes: BTreeSet<usize>,
    fields: &'a [Field],
    wrongs: Wrongs,
    read: R,
}

impl<'b, R: FnMut(&mut Decoder<'b>, &Field) -> Result<Val, Wrongs>> Members<'_, R> {
    fn by_name(&mut self, decoder: &mut Decoder<'b>) -> Result<(), Wrongs> {
        let mut entries = Items::map(decoder)?;
        // Keys usually come in the order of the fields, so the one after the last is tried first.
        let mut next = 0;
        while !self.wrongs.is_final() && entries.more(decoder)? {
            let key = cbor::text(decoder)?;
            let in_order = self.fields.get(next).is_some_and(|field| field.name == *key);
            let found =
                if in_order { Some(next) } else { self.fields.iter().position(|field| field.name == *key) };
            match found {
                Some(index) => {
                    next = index + 1;
                    self.member(decoder, index)?;
                }
                None => {
                    decoder.skip()?;
                    self.wrongs.add(Wrongs::unknown(&key));
                }
            }
        }
        Ok(())
    }

    fn by_position(&mut self, decoder: &mut Decoder<'b>) -> Result<(), Wrongs> {
        let mut items = Items::array(decoder)?;
        let mut index = 0;
        while !self.wrongs.is_final() && items.more(decoder)? {
            if index == self.fields.len() {
                self.wrongs.add(Wrongs::too_many(index));
                return Ok(());
            }
            self.member(decoder, index)?;
            index += 1;
        }
        Ok(())
    }

    /// Reads the value of one member. When it does not fit it is passed over, so that the others can be looked at.
    fn member(&mut self, decoder: &mut Decoder<'b>, index: usize) -> Result<(), Wrongs> {
        let Some(field) = self.fields.get(index) else { return Ok(()) };
        let start = decoder.position();
        let is_first = index >= self.vals.len() || self.holes.contains(&index);
        let read = if is_first { (self.read)(decoder, field) } else { Err(Wrongs::twice("")) };
        let wrongs = match read {
            Ok(val) => {
                self.fill(index, val);
                return Ok(());
            }
            Err(wrongs) => wrongs.within(&field.name),
        };
        let is_final = wrongs.is_final();
        self.wrongs.add(wrongs);
        self.fill(index, Val::Option(None));
        if !is_final {
            decoder.set_position(start);
            decoder.skip()?;
        }
        Ok(())
    }

    /// Puts a value in its place. Members that are passed by on the way there have not come yet.
    fn fill(&mut self, index: usize, val: Val) {
        while self.vals.len() < index {
            self.holes.insert(self.vals.len());
            self.vals.push(Val::Option(None));
        }
        match self.vals.get_mut(index) {
            Some(place) => {
                *place = val;
                self.holes.remove(&index);
            }
            None => self.vals.push(val),
        }
    }

    /// Leaves out what may be left out.
    fn finish(mut self) -> Result<Vec<Val>, Wrongs> {
        for index in self.vals.len()..self.fields.len() {
            self.holes.insert(index);
            self.vals.push(Val::Option(None));
        }
        for field in self.holes.iter().filter_map(|index| self.fields.get(*index)) {
            if !self.wrongs.is_final() && !matches!(field.ty, Type::Option(_)) {
                self.wrongs.add(Wrongs::missing(&field.name, &field.ty));
            }
        }
        if self.wrongs.is_empty() { Ok(self.vals) } else { Err(self.wrongs) }
    }
}
