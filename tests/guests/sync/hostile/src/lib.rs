//! `hostile`: a sync policy that keeps what it is told to, but for keys that name what a sync policy must not do.

use midplane_sdk::send;
use midplane_sdk::sync::*;

/// More of anything than the host takes in one answer.
const MANY: usize = 1_000_000;

struct Hostile;

impl Policy for Hostile {
    fn init(_: Setup) -> Result<(Self, Vec<Effect>), String> {
        Ok((Self, Vec::new()))
    }

    fn handle(&mut self, _: Millis, event: Event) -> Vec<Effect> {
        let Event::Asked(Ask { id, place, wish }) = event else { return Vec::new() };
        let act = place.key.clone();
        let value = match wish {
            Wish::Put(value) => Some(value),
            Wish::Remove => None,
        };
        let mut effects = does(&act, id, &place);
        effects.push(Effect::Put(Entry { place: place.clone(), value, meta: Vec::new() }));
        effects.push(Effect::Changed(vec![place]));
        effects.push(Effect::Accepted(id));
        effects
    }
}

/// What is wrong before it goes on as if nothing was.
fn does(act: &str, id: u64, own: &Place) -> Vec<Effect> {
    let at = |dataset: &str, key: String| Place { dataset: dataset.into(), key };
    let put = |place, value: usize, meta: usize| {
        Effect::Put(Entry { place, value: Some(vec![7; value]), meta: vec![7; meta] })
    };
    match act {
        "trap" => panic!("on purpose"),
        "loop" => loop {
            std::hint::black_box(());
        },
        "grow" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
            }
        }
        "million" => (0..MANY).map(|number| put(at(&own.dataset, number.to_string()), 0, 0)).collect(),
        "rows" => (0..65_537).map(|number| put(at(&own.dataset, number.to_string()), 0, 0)).collect(),
        "key" => vec![put(at(&own.dataset, "k".repeat(257)), 1, 1)],
        "line" => vec![put(at(&own.dataset, "a\nb".into()), 1, 1)],
        "value" => vec![put(at(&own.dataset, "v".into()), (32 << 10) + 1, 1)],
        "meta" => vec![put(at(&own.dataset, "m".into()), 1, (16 << 10) + 1)],
        "theft" => vec![put(at("config", "motd".into()), 1, 1)],
        "erase" => vec![Effect::Remove(at("config", "motd".into()))],
        "message" => vec![send(&"a".repeat(52), vec![0; (60 << 10) + 1])],
        "stranger" => vec![send(&"a".repeat(52), vec![1]), send("nobody", vec![1])],
        "loads" => {
            (0..MANY as u64 / 100).map(|id| Effect::Load(Request { id, places: vec![own.clone()] })).collect()
        }
        "answers" => vec![
            Effect::Accepted(id + 1_000),
            Effect::Refused(Refusal { id: u64::MAX, reason: "x".repeat(1 << 20) }),
            Effect::Changed(vec![at("config", "motd".into()), at("nowhere", "k".repeat(10_000))]),
            Effect::Lost(Loss { place: at("config", "motd".into()), loser: "x".into(), winner: "y".into() }),
        ],
        _ => Vec::new(),
    }
}

midplane_sdk::export_sync!(Hostile);
