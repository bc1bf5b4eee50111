//! Measuring in turns, and the table that comes out.

use std::fmt;

use midplane::clock::monotonic;

/// Rounds that count. Many short ones: one takes some milliseconds, so that most are not interrupted by whatever else the machine
/// has to do, and the median is that of an undisturbed one.
const ROUNDS: usize = 61;
/// Rounds before them, to warm up.
const WARMING: usize = 4;

/// One line of the table.
pub struct Row {
    /// What is measured, and against what.
    pub what: String,
    /// The unit of both sides.
    pub unit: &'static str,
    /// This project.
    pub ours: Spread,
    /// The least that it can cost.
    pub floor: Option<Spread>,
    /// What is wanted.
    pub aim: Aim,
}

/// Several measurements of one thing.
#[derive(Clone, Copy)]
pub struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

/// What is wanted of a row.
#[derive(Clone, Copy)]
pub enum Aim {
    /// At most so many times the floor.
    TimesAtMost(f64),
    /// At least so many times the floor.
    TimesAtLeast(f64),
    /// At most so much, in the row's unit.
    AtMost(f64),
    /// Nothing: it is only told.
    None,
}

impl Spread {
    /// Of at least one measurement.
    pub fn of(measured: impl IntoIterator<Item = f64>) -> Self {
        let mut measured: Vec<f64> = measured.into_iter().collect();
        measured.sort_by(f64::total_cmp);
        Self { median: measured[measured.len() / 2], least: measured[0], most: measured[measured.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most } = self;
        let digits = if *median < 10.0 { 2 } else { usize::from(*median < 1_000.0) };
        write!(f, "{median:.digits$} ({least:.digits$}–{most:.digits$})")
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.ours.median / floor.median)
    }

    fn is_met(&self) -> bool {
        match (self.aim, self.ratio()) {
            (Aim::TimesAtMost(aim), Some(ratio)) => ratio <= aim,
            (Aim::TimesAtLeast(aim), Some(ratio)) => ratio >= aim,
            (Aim::AtMost(aim), _) => self.ours.median <= aim,
            (Aim::None, _) => true,
            (_, None) => false,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, ours, .. } = self;
        let floor = self.floor.map_or("–".to_owned(), |floor| floor.to_string());
        let ratio = self.ratio().map_or("–".to_owned(), |ratio| format!("{ratio:.2}×"));
        let aim = match self.aim {
            Aim::TimesAtMost(aim) => format!("≤ {aim}×"),
            Aim::TimesAtLeast(aim) => format!("≥ {aim}×"),
            Aim::AtMost(aim) => format!("≤ {aim} {unit}"),
            Aim::None => "–".to_owned(),
        };
        let met = if matches!(self.aim, Aim::None) {
            "–"
        } else if self.is_met() {
            "yes"
        } else {
            "no"
        };
        write!(f, "| {what} | {unit} | {ours} | {floor} | {ratio} | {aim} | {met} |")
    }
}

/// Prints the table in Markdown.
pub fn print(rows: &[Row]) {
    println!("| what | unit | ours: median (least–most) | floor | ratio | aim | met |");
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
}

/// Measures both sides in turns, so that what disturbs one disturbs the other as well.
pub async fn in_turns<T>(ours: impl AsyncFnMut() -> T, floor: impl AsyncFnMut() -> T) -> (Vec<T>, Vec<T>) {
    in_turns_of((WARMING, ROUNDS), ours, floor).await
}

/// The same with so many rounds to warm up, and so many that count.
pub async fn in_turns_of<T>(
    (warming, rounds): (usize, usize),
    mut ours: impl AsyncFnMut() -> T,
    mut floor: impl AsyncFnMut() -> T,
) -> (Vec<T>, Vec<T>) {
    let (mut of_ours, mut of_floor) = (Vec::new(), Vec::new());
    for round in 0..warming + rounds {
        let pair = (ours().await, floor().await);
        if round >= warming {
            of_ours.push(pair.0);
            of_floor.push(pair.1);
        }
    }
    (of_ours, of_floor)
}

/// Nanoseconds for each of `times` goes of something.
pub async fn each(times: u32, mut go: impl AsyncFnMut()) -> f64 {
    let started = monotonic();
    for _ in 0..times {
        go().await;
    }
    started.elapsed().as_nanos() as f64 / f64::from(times)
}

/// Median and 99th percentile, in microseconds.
#[derive(Clone, Copy)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// The time that each of `times` goes takes by itself.
pub async fn latency(times: u32, mut go: impl AsyncFnMut()) -> Latency {
    let mut took = Vec::with_capacity(times as usize);
    for _ in 0..times {
        let started = monotonic();
        go().await;
        took.push(started.elapsed().as_nanos() as f64 / 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    Latency { p50: took[took.len() / 2], p99: took[took.len() * 99 / 100] }
}
