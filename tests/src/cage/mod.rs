//! Where components that do harm are held: each against how it must end, within what time, for how much memory, and with a neighbour
//! beside it whose calls go on. Memory is that of the whole process, so one [`Cage`] is open at a time, and a test file that has one has
//! nothing else that takes much.

pub mod bombs;
pub mod guests;
pub mod policies;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use midplane::wasm::workload::Workload;
use midplane::words::objects::{Instances, Kind, Limits};
use midplane::words::{Code, Digest, Fault};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;

use crate::guests::{Bench, TIGHT, UNHURRIED, answers, call, forget_peak, hostile, peak, resident, until};

/// What may pass beyond the limit that ends a guest: far above what anything takes on a busy machine.
pub const GRACE: Duration = Duration::from_secs(20);
/// By how much the process may grow beyond the memory that the guest was given: for what is around it.
pub const SLACK: u64 = 32 << 20;
/// What the host lifts out of a guest's memory at once, at the most.
const LIFT: u64 = 64 << 20;
/// The preflight's time for an instance to be made.
const START: Duration = Duration::from_secs(5);
/// Between two calls of the neighbour: it lives beside the guest, it does not push it aside.
const PACE: Duration = Duration::from_millis(1);
/// What takes longer than this is watched closely enough to see whether the neighbour went on meanwhile.
const LONG: Duration = Duration::from_millis(200);
/// Turns that a thread which only sleeps for [`PACE`] has at least in [`LONG`], on a machine that goes on.
const TURNS: u64 = 50;

/// Where a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before it is compiled, or because it cannot be.
    Load,
    /// While its one instance for the preflight is made.
    Start,
    /// In the call of `run`.
    Run,
}

/// A file of `tests/hostile`, and how its guest ends.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The file's name.
    pub file: &'static str,
    /// When.
    pub when: When,
    /// With which code.
    pub code: Code,
    /// What the limit in the report says; of a guest that is not loaded, the message.
    pub says: &'static str,
    /// How many host calls it may make.
    pub host_calls: u64,
    /// Whether it makes the host read much out of its memory; what that may cost has a limit of its own.
    pub lifts: bool,
}

impl Case {
    const fn new(file: &'static str, when: When, code: Code, says: &'static str) -> Self {
        Self { file, when, code, says, host_calls: TIGHT.host_calls, lifts: false }
    }

    const fn load(file: &'static str, code: Code, says: &'static str) -> Self {
        Self::new(file, When::Load, code, says)
    }

    const fn start(file: &'static str, code: Code, says: &'static str) -> Self {
        Self::new(file, When::Start, code, says)
    }

    const fn run(file: &'static str, code: Code, says: &'static str) -> Self {
        Self::new(file, When::Run, code, says)
    }

    const fn trap(file: &'static str, says: &'static str) -> Self {
        Self::run(file, Code::Trap, says)
    }

    const fn late(file: &'static str) -> Self {
        Self::run(file, Code::Deadline, "the deadline of 400 ms")
    }

    /// The same for a guest that needs many host calls to do its harm.
    const fn calls(self, host_calls: u64) -> Self {
        Self { host_calls, ..self }
    }

    const fn lifts(self) -> Self {
        Self { lifts: true, ..self }
    }

    fn slot(&self) -> String {
        format!("skill/{}", self.file)
    }

    fn limits(&self) -> Limits {
        let rest = if self.code == Code::Deadline { TIGHT } else { UNHURRIED };
        Limits { host_calls: self.host_calls, ..rest }
    }
}

/// A bench with a neighbour whose calls never stop.
pub struct Cage {
    /// What a node has for components.
    pub bench: Arc<Bench>,
    calls: Arc<AtomicU64>,
    neighbour: JoinHandle<()>,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Cage {
    fn drop(&mut self) {
        self.neighbour.abort();
    }
}

/// What something cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// How long it took.
    pub took: Duration,
    /// By how much the process grew at the most.
    pub grew: u64,
}

/// How often a thread had its turn that no guest can hold up.
fn turns() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static BEGIN: std::sync::Once = std::sync::Once::new();
    BEGIN.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(PACE);
                COUNT.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    COUNT.load(Ordering::Relaxed)
}

impl Cage {
    /// Waits until no other cage of this process is open.
    pub async fn open() -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let bench = Arc::<Bench>::default();
        let workload = bench.neighbour().await;
        let calls = Arc::<AtomicU64>::default();
        let count = calls.clone();
        let neighbour = tokio::spawn(async move {
            loop {
                answers(&workload).await;
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PACE).await;
            }
        });
        let cage = Self { bench, calls, neighbour, _alone: alone };
        // What its first calls take for good is not held against anybody else.
        until("the neighbour answers", || cage.calls() > 10).await;
        cage
    }

    fn calls(&self) -> u64 {
        assert!(!self.neighbour.is_finished(), "the neighbour's calls have ended");
        self.calls.load(Ordering::Relaxed)
    }

    /// Does something, on the threads where the neighbour is too. The neighbour has to go on meanwhile, and afterwards.
    pub async fn watch<T: Send + 'static>(
        &self,
        what: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> (T, Cost) {
        forget_peak();
        let (size, calls, turned, started) = (resident(), self.calls(), turns(), Instant::now());
        let done = tokio::spawn(work).await.expect("it does not panic");
        let cost = Cost { took: started.elapsed(), grew: peak().saturating_sub(size) };
        let (meanwhile, turned) = (self.calls() - calls, turns() - turned);
        // Where a thread of its own had few turns, it was the machine that stood still.
        assert!(
            cost.took < LONG || meanwhile > 2 || turned < TURNS,
            "{what}: {meanwhile} calls of the neighbour, {turned} turns in {cost:?}"
        );
        let calls = self.calls();
        until(what, || self.calls() > calls + 1).await;
        (done, cost)
    }

    /// Prepares and calls the guest; what was not as it should have been.
    pub async fn check(&self, case: &Case) -> Option<String> {
        let (case, bench) = (*case, self.bench.clone());
        let loading = async move { bench.component(Kind::Skill, &hostile(case.file)).await };
        let (code, cost) = self.watch(case.file, loading).await;
        let code = match (code, case.when) {
            (Ok(code), When::Start | When::Run) => code,
            (Err(fault), When::Load) => return case.ended(&fault, cost, GRACE, None),
            (Ok(_), When::Load) => return Some(format!("{}: it was loaded", case.file)),
            (Err(fault), _) => return Some(format!("{}: not loaded: {fault}", case.file)),
        };
        let bench = self.bench.clone();
        let starting = async move {
            let digest = Digest::of(case.file.as_bytes());
            bench.seat(&case.slot(), &code, digest, case.limits(), Instances::Fresh).await
        };
        let (workload, cost) = self.watch(case.file, starting).await;
        let workload = match (workload, case.when) {
            (Ok(workload), When::Run) => workload,
            (Err(fault), When::Start) => return case.ended(&fault, cost, START + GRACE, Some("start")),
            (Ok(_), _) => return Some(format!("{}: it started", case.file)),
            (Err(fault), _) => return Some(format!("{}: not started: {fault}", case.file)),
        };
        let (answer, cost) = self.watch(case.file, async move { run(&workload).await }).await;
        match answer {
            Err(fault) => {
                let time = Duration::from_millis(TIGHT.deadline_ms);
                if fault.code == Code::Deadline && cost.took < time {
                    return Some(format!("{}: its deadline came early: {cost:?}", case.file));
                }
                case.ended(&fault, cost, time + GRACE, Some("run"))
            }
            Ok(value) => Some(format!("{}: it answered {value}", case.file)),
        }
    }
}

/// Calls `run` with what it takes.
pub async fn run(workload: &Arc<Workload>) -> Result<serde_json::Value, Fault> {
    let function = workload.functions().next().expect("it has a function");
    let arguments = match function.signature() {
        text if text.contains("list<u32>") => json!([[1, 2, 3]]),
        _ if function.params.is_empty() => json!([]),
        _ => json!(["text"]),
    };
    call(workload, "run", arguments).await
}

impl Case {
    /// Compares how the guest ended with how it was to end.
    fn ended(&self, fault: &Fault, cost: Cost, most: Duration, function: Option<&str>) -> Option<String> {
        let slot = self.slot();
        let (report, what) = (fault.report.as_deref(), &fault.what);
        let named = match function {
            // Its end is its own, with a report that says whose, where and why.
            Some(function) => {
                what.starts_with(&format!("{slot} {function} "))
                    && report.is_some_and(|report| {
                        report.plugin == slot
                            && report.function == function
                            && report.limit.contains(self.says)
                    })
            }
            None => report.is_none() && what.contains(self.says),
        };
        let memory = TIGHT.memory + SLACK + if self.lifts { LIFT } else { 0 };
        let wrong = [
            (fault.code != self.code, format!("not {}", self.code)),
            (!named, format!("it does not say {:?}", self.says)),
            (!what.chars().all(midplane::log::is_text), "it moves a cursor".to_owned()),
            (cost.took > most, format!("it took longer than {most:?}")),
            (cost.grew > memory, format!("it grew by more than {} MiB", memory >> 20)),
        ];
        let wrong: Vec<String> = wrong.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
        (!wrong.is_empty())
            .then(|| format!("{}: {}: {fault} {report:?} {cost:?}", self.file, wrong.join(", ")))
    }
}
