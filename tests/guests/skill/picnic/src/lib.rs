//! `picnic`: calls what it imports, and does not know who answers.

midplane_sdk::skill!(Picnic);

use tests::weather::forecast::{self, Place, When};

struct Picnic;

impl Guest for Picnic {
    fn plan(name: String, latitude: f64, hours: Option<u32>) -> String {
        let place = Place { name, latitude };
        format!("{:?}", forecast::get(&place, hours.map_or(When::Now, When::InHours)))
    }

    fn station() -> String {
        forecast::station()
    }

    fn note(text: String) {
        forecast::note(&text);
    }

    fn fail(forever: bool) {
        forecast::fail(forever);
    }
}
