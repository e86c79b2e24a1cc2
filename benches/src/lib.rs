//! Shared pieces of the benchmarks: how a figure is measured, judged and printed.

#[cfg(feature = "path")]
pub mod broker;
#[cfg(feature = "path")]
pub mod head_end;
pub mod instructions;
#[cfg(feature = "path")]
pub mod postgres;
#[cfg(feature = "path")]
pub mod process;
pub mod python;
#[cfg(feature = "path")]
pub mod read;
#[cfg(feature = "path")]
pub mod world;

use std::fmt;
use std::process::ExitCode;

use cpu_time::ThreadTime;

/// Thread CPU time per item in ns, or a ratio of two of them: one sample a round.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One sample a round.
    #[must_use]
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        Self(samples.into_iter().collect())
    }

    /// The middle sample.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Half the distance between the quartiles, in percent of the median.
    #[must_use]
    pub fn spread_percent(&self) -> f64 {
        50.0 * (self.quantile(0.75) - self.quantile(0.25)) / self.median()
    }

    /// These over those, round by round.
    #[must_use]
    pub fn over(&self, those: &Self) -> Self {
        Self(self.0.iter().zip(&those.0).map(|(this, that)| this / that).collect())
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = share * sorted.len().saturating_sub(1) as f64;
        sorted.get(index.round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Runs the contenders in turn, once to warm up and then `rounds` times, so that what the machine does
/// meanwhile hits all of them. Each call works on `items` items.
pub fn in_turn<const N: usize>(
    rounds: usize,
    items: usize,
    mut contenders: [&mut dyn FnMut(); N],
) -> [Samples; N] {
    let mut samples = [const { Samples(Vec::new()) }; N];
    for contender in &mut contenders {
        contender();
    }
    for _ in 0..rounds {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            let start = ThreadTime::now();
            contender();
            samples.0.push(start.elapsed().as_nanos() as f64 / items as f64);
        }
    }
    samples
}

/// Which side of its floor a figure must be on.
#[derive(Clone, Copy, Debug)]
pub enum Floor {
    /// Pass at this or more.
    AtLeast(f64),
    /// Pass at this or less.
    AtMost(f64),
    /// Nothing is asked of it: a figure to be known.
    None,
}

impl Floor {
    /// Whether `figure` is on the right side.
    #[must_use]
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(floor) => figure >= floor,
            Self::AtMost(floor) => figure <= floor,
            Self::None => true,
        }
    }
}

/// One line of output: `id  ours  peer  ratio  (spread)  pass|short`.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its id in the list of targets.
    pub id: &'static str,
    /// Ours, with its unit.
    pub ours: String,
    /// The yardstick of the same run, with its unit.
    pub peer: String,
    /// What is judged.
    pub ratio: f64,
    /// Of the ratio over the rounds, in percent.
    pub spread_percent: f64,
    /// What the ratio is judged by.
    pub floor: Floor,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, ours, peer, ratio, spread_percent, floor } = self;
        let verdict = match floor {
            Floor::None => "no floor",
            floor if floor.holds(*ratio) => "pass",
            _ => "short",
        };
        write!(f, "{id:<4} {ours:>14} {peer:>14} {ratio:>8.2}  (±{spread_percent:.1} %)  {verdict}")
    }
}

/// Why the numbers of a benchmark mean nothing: its answers were wrong.
#[derive(Clone, Debug)]
pub struct Void(pub String);

/// Runs a benchmark whose gate is passed or not; a failed gate prints `void` and no number after it.
pub fn gated(run: impl FnOnce() -> Result<(), Void>) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Void(reason)) => {
            println!("void  {reason}");
            ExitCode::FAILURE
        }
    }
}

/// A seeded stream of numbers (SplitMix64), the same on every machine.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The stream of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// Bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.number() as u8)
    }
}

/// A number from the environment, or `default`.
#[must_use]
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// CPU time of this process so far, ns.
#[must_use]
pub fn process_cpu() -> f64 {
    cpu_time::ProcessTime::now().as_duration().as_nanos() as f64
}

/// CPU time of this process so far by the name of its threads, ns; threads that ended are not in it.
#[must_use]
pub fn by_thread() -> Vec<(String, f64)> {
    let mut times: Vec<(String, f64)> = Vec::new();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return times };
    for task in tasks.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (name, schedule) = (read("comm"), read("schedstat"));
        let ns: f64 = schedule.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0.0);
        let name = name.trim().to_owned();
        match times.iter_mut().find(|(other, _)| *other == name) {
            Some((_, sum)) => *sum += ns,
            None => times.push((name, ns)),
        }
    }
    times
}
