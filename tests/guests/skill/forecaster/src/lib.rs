//! `forecaster`: an interface that other skills import.

midplane_sdk::skill!(Forecaster);

use exports::tests::weather::forecast::{Day, Guest, Place, Problem, Sky, Warnings, When};
use wasi::config::store as config;

struct Forecaster;

impl Guest for Forecaster {
    fn get(at: Place, when: When) -> Result<Vec<Day>, Problem> {
        let hours = match (at.name.as_str(), when) {
            ("closed", _) => return Err(Problem::Closed),
            ("Oslo", When::Now) => 1,
            ("Oslo", When::InHours(hours)) if hours > 48 => return Err(Problem::TooFar(u64::MAX - 1)),
            ("Oslo", When::InHours(hours)) => hours.max(1),
            _ => return Err(Problem::UnknownPlace(at.name)),
        };
        let day = |hour: u32| Day {
            sky: if hour % 2 == 0 { Sky::Clear } else { Sky::Rain },
            high: -(at.latitude as i16),
            wind: (hour > 0).then_some(hour as f32 / 2.0),
            warnings: if hour == 0 { Warnings::WIND | Warnings::FROST } else { Warnings::empty() },
            notes: vec![("hour".to_owned(), vec![hour as u8, 255])],
        };
        Ok((0..hours).map(day).collect())
    }

    fn station() -> String {
        config::get("station").ok().flatten().unwrap_or_default()
    }

    fn note(text: String) {
        assert!(!text.is_empty(), "nothing to note");
    }

    fn fail(forever: bool) {
        while forever {
            std::hint::black_box(());
        }
        panic!("as it was asked to");
    }
}
