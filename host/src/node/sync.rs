//! What sync policies may do: rows in one transaction, reads, answers, changes.

use super::Node;
use super::effects::{Base, carry_base};
use crate::log::{self, Level};
use crate::policy::slot::Carry;
use crate::policy::sync::{
    Ask, Beginning, Effect, Entry, Event, Head, Loss, Place, Reading, Refusal, Request, Sync,
};
use crate::policy::types::{Message, Setup, State};
use crate::store::entries::{Quota, RowChange};
use crate::words::dataset::{META_MAX, VALUE_MAX, is_key};
use crate::words::id::clip;
use crate::words::objects::Plugin;
use crate::words::{Code, Fault, Outcome};

/// Rows of one slot. A policy knows the head of each: 64 Ki of them, with long keys, are 20 MiB of its memory.
const ROWS_MOST: u64 = 65_536;
/// Bytes of one slot: what a small board can keep of settings; larger things are blobs.
const BYTES_MOST: u64 = 128 << 20;
/// Rows in one `stored`: little enough for the fuel of one event.
const STORED_ROWS: usize = 512;
/// Bytes of keys, values and metadata in one `stored` or `loaded`.
const PIECE_BYTES: usize = 256 << 10;
/// Requests to read that may be unanswered: 16 MiB of answers.
const LOADS_MOST: usize = 64;

/// Carries out what a sync policy decides.
pub struct CarrySync {
    base: Base,
    datasets: Vec<String>,
    opening: Opening,
}

/// What a new instance has been told of the table.
enum Opening {
    Nothing,
    /// All datasets before this one, and of this one all keys up to that one.
    Told(usize, Option<String>),
}

impl CarrySync {
    /// For this slot, with its datasets.
    pub fn boxed(node: &Node, entry: &Plugin) -> Box<dyn Carry<Sync>> {
        let mut datasets = entry.datasets.clone();
        datasets.sort();
        Box::new(Self { base: Base::new(node, entry), datasets, opening: Opening::Nothing })
    }

    /// The change that an effect asks for, if it is one and may be asked for.
    fn change<'a>(&self, effect: &'a Effect) -> Outcome<Option<RowChange<'a>>> {
        let (place, change) = match effect {
            Effect::Put(Entry { place, value, meta }) => {
                let (dataset, key) = (place.dataset.as_str(), place.key.as_str());
                if value.as_ref().is_some_and(|value| value.len() > VALUE_MAX) || meta.len() > META_MAX {
                    let limits = format!("{VALUE_MAX} bytes of value and {META_MAX} of metadata");
                    return Err(self.wrong(place, &format!("more than {limits}")));
                }
                (place, RowChange::Put { dataset, key, value: value.as_deref(), meta })
            }
            Effect::Remove(place) => (place, RowChange::Remove { dataset: &place.dataset, key: &place.key }),
            _ => return Ok(None),
        };
        if self.datasets.binary_search(&place.dataset).is_err() {
            return Err(self.wrong(place, "a dataset that the slot does not have"));
        }
        if !is_key(&place.key) {
            return Err(self.wrong(place, "a key that no entry can have"));
        }
        Ok(Some(change))
    }

    fn wrong(&self, place: &Place, why: &str) -> Fault {
        let (dataset, key) = (clip(&place.dataset).escape_debug(), clip(&place.key).escape_debug());
        let what = format!("{} wrote {dataset}/{key}: {why}", self.base.slot);
        Fault::new(Code::Protocol, what)
    }

    /// Rows as they are, in the order asked for, as many as fit into one piece.
    fn read(&self, request: Request) -> Outcome<Reading> {
        let (mut entries, mut size) = (Vec::new(), 0);
        let mut places = request.places.into_iter();
        while let Some(place) = places.next() {
            if self.datasets.binary_search(&place.dataset).is_err() {
                continue;
            }
            let Some(row) = self.base.node.datasets.entries.row(&place.dataset, &place.key)? else {
                continue;
            };
            size += place.key.len() + row.meta.len() + row.value.as_ref().map_or(0, Vec::len);
            if size > PIECE_BYTES && !entries.is_empty() {
                let rest = u32::try_from(places.len() + 1).unwrap_or(u32::MAX);
                return Ok(Reading { id: request.id, entries, rest });
            }
            entries.push(Entry { place, value: row.value, meta: row.meta });
        }
        Ok(Reading { id: request.id, entries, rest: 0 })
    }

    fn stored(&mut self) -> Outcome<Option<Event>> {
        let Opening::Told(index, after) = &mut self.opening else {
            self.opening = Opening::Told(0, None);
            return Ok(Some(Event::Begin(Beginning {
                datasets: self.datasets.clone(),
                rows_most: ROWS_MOST,
                bytes_most: BYTES_MOST,
            })));
        };
        while let Some(dataset) = self.datasets.get(*index) {
            let entries = &self.base.node.datasets.entries;
            let heads = entries.heads(dataset, after.as_deref(), STORED_ROWS, PIECE_BYTES)?;
            if let Some(last) = heads.last() {
                *after = Some(last.key.clone());
                let head = |head: crate::store::entries::RowHead| Head {
                    place: Place { dataset: dataset.clone(), key: head.key },
                    length: head.length.map(|length| u32::try_from(length).unwrap_or(u32::MAX)),
                    meta: head.meta,
                };
                return Ok(Some(Event::Stored(heads.into_iter().map(head).collect())));
            }
            (*index, *after) = (*index + 1, None);
        }
        Ok(None)
    }
}

impl Carry<Sync> for CarrySync {
    carry_base!(but_setup);

    fn setup(&mut self, handover: Option<State>) -> Setup {
        self.opening = Opening::Nothing;
        self.base.setup(handover)
    }

    fn opening(&mut self) -> Outcome<Option<Event>> {
        self.stored()
    }

    fn persist(&mut self, effects: &[Effect]) -> Outcome<()> {
        let mut changes = Vec::new();
        for effect in effects {
            changes.extend(self.change(effect)?);
        }
        if changes.is_empty() {
            return Ok(());
        }
        let quota = Quota { datasets: &self.datasets, rows: ROWS_MOST, bytes: BYTES_MOST };
        self.base.node.datasets.entries.apply(&changes, quota)
    }

    fn effect(&mut self, effect: Effect) -> Vec<Event> {
        let node = &self.base.node;
        match effect {
            // Done before everything else, see `persist`.
            Effect::Put(_) | Effect::Remove(_) | Effect::Base(_) => {}
            Effect::Changed(places) => {
                for Place { dataset, key } in places {
                    if self.datasets.binary_search(&dataset).is_ok()
                        && let Err(fault) = node.datasets.changed(dataset, key)
                    {
                        node.log.plugin(&self.base.slot, Level::Error, &fault.to_string());
                    }
                }
            }
            Effect::Load(request) => {
                let id = request.id;
                let reading = self.read(request).unwrap_or_else(|fault| {
                    node.log.plugin(&self.base.slot, Level::Error, &fault.to_string());
                    Reading { id, entries: Vec::new(), rest: 0 }
                });
                return vec![Event::Loaded(reading)];
            }
            Effect::Accepted(id) => node.datasets.answered(id, Ok(())),
            Effect::Refused(Refusal { id, reason }) => {
                let what = format!("{} does not want that: {}", self.base.slot, log::clean(&reason));
                node.datasets.answered(id, Err(Fault::new(Code::NotAllowed, what)));
            }
            Effect::Lost(Loss { place, loser, winner }) => {
                if self.datasets.binary_search(&place.dataset).is_ok() {
                    let (loser, winner) = (super::effects::short(&loser), super::effects::short(&winner));
                    let text = format!(
                        "{}/{}: what {loser} wrote gave way to what {winner} wrote, and neither knew of the other",
                        place.dataset, place.key
                    );
                    node.log.plugin(&self.base.slot, Level::Warn, &text);
                    // Whoever sees the count finds the line.
                    node.datasets.lost(&place.dataset);
                }
            }
        }
        Vec::new()
    }

    fn unheard(&mut self, event: &Event) {
        if let Event::Asked(Ask { id, .. }) = event {
            let what = format!("{} is being restarted, and nothing was written", self.base.slot);
            self.base.node.datasets.answered(*id, Err(Fault::new(Code::Busy, what).fix("try again")));
        }
    }

    fn ended(&mut self, fault: &Fault) {
        self.base.node.datasets.ended(&self.base.slot, fault);
    }

    fn answers_most(&self) -> usize {
        LOADS_MOST
    }
}
