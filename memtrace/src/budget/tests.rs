//! A budget against a simulated target.

use std::time::Duration;

use memtrace_common::sampling::{EXACT, NOTHING};

use super::{AUTO_SHIFT, Budget, Choice, Due, Mode, Prices, Reading, Verdict, spent};

const PRICES: Prices = Prices { free: 500.0, call: 800.0, left_out: 500.0, stepping: 9000.0 };
const INSIDE: f64 = 150.0;

/// How its calls are seen.
#[derive(Clone, Copy)]
enum Probes {
    None,
    All(u64),
    Frees,
}

/// A process that makes pairs of calls as fast as it can.
struct Target {
    now: Reading,
    /// ns of its own time between two pairs.
    pair: f64,
    /// The part of a processor that it uses.
    busy: f64,
}

impl Target {
    fn new(pair: f64) -> Self {
        Self { now: Reading::default(), pair, busy: 1.0 }
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration, probes: Probes) -> Reading {
        let cpu = time.mul_f64(self.busy);
        let (traps, inside, returns) = match probes {
            Probes::None => (0.0, 0.0, false),
            Probes::All(NOTHING) => (PRICES.left_out + PRICES.free, 40.0, false),
            Probes::All(EXACT) => (PRICES.call + PRICES.free, 2.0 * INSIDE, true),
            Probes::All(_) => (PRICES.left_out + PRICES.free, 60.0, false),
            Probes::Frees => (PRICES.free, 30.0, false),
        };
        let pairs = (cpu.as_nanos() as f64 / (self.pair + traps + inside)) as u64;
        self.now.at += time;
        self.now.cpu += cpu;
        let work = &mut self.now.work;
        match probes {
            Probes::None => {}
            Probes::Frees => {
                work.frees[0] += pairs;
                work.runs += pairs;
            }
            Probes::All(_) => {
                work.entries[0] += pairs;
                work.frees[0] += pairs;
                work.runs += pairs * if returns { 3 } else { 2 };
            }
        }
        work.nanoseconds += (pairs as f64 * inside) as u64;
        self.now
    }

    fn share(&self, since: Reading) -> f64 {
        let spent = spent(&self.now.work, &PRICES) - spent(&since.work, &PRICES);
        spent.as_secs_f64() / (self.now.cpu - since.cpu).as_secs_f64()
    }
}

fn begin(target: &mut Target, limit: f64, choice: Choice) -> (Budget, Mode) {
    let mut budget = Budget::new(limit, PRICES, choice, target.now);
    let now = target.run(Duration::from_millis(50), Probes::All(NOTHING));
    let mode = budget.begin(now);
    (budget, mode)
}

/// Follows the budget's decisions for some time. Returns every decision that changed something.
fn follow(budget: &mut Budget, target: &mut Target, time: Duration) -> Vec<Verdict> {
    let end = target.now.at + time;
    let mut verdicts = Vec::new();
    while target.now.at < end {
        let verdict = match budget.mode() {
            Mode::Steady(shift) => {
                let now = target.run(Duration::from_millis(200), Probes::All(shift));
                budget.observe(now)
            }
            Mode::Windows(shift) => match budget.window(target.now, Duration::ZERO) {
                Due::Never => panic!("no window can ever be paid"),
                Due::Later => {
                    target.run(Duration::from_millis(50), Probes::None);
                    Verdict::Keep
                }
                Due::Now(window) => {
                    let begin = target.now;
                    target.run(window.count, Probes::All(shift));
                    let now = target.run(window.watch, Probes::Frees);
                    budget.window_ended(begin, now)
                }
            },
        };
        if verdict != Verdict::Keep {
            verdicts.push(verdict);
        }
    }
    verdicts
}

#[test]
fn a_calm_target_is_counted_exactly() {
    let mut target = Target::new(100_000.0);
    let (mut budget, mode) = begin(&mut target, 0.05, Choice::Auto);
    assert_eq!(mode, Mode::Steady(EXACT));
    assert_eq!(follow(&mut budget, &mut target, Duration::from_secs(60)), []);
}

#[test]
fn a_target_that_fits_when_sampled_is_sampled() {
    // Counting takes 1600 of 15100 ns, sampling 1060 of 14560.
    let mut target = Target::new(13_500.0);
    let (mut budget, mode) = begin(&mut target, 0.09, Choice::Auto);
    assert_eq!(mode, Mode::Steady(AUTO_SHIFT));
    let verdicts = follow(&mut budget, &mut target, Duration::from_secs(60));
    assert!(
        verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Switch(Mode::Steady(shift)) if *shift != EXACT))
    );
    assert!(target.share(Reading::default()) < 0.09);
}

#[test]
fn a_hot_target_is_traced_in_windows_within_the_limit() {
    for limit in [0.01, 0.02, 0.05, 0.2] {
        let mut target = Target::new(300.0);
        let (mut budget, mode) = begin(&mut target, limit, Choice::Auto);
        assert_eq!(mode, Mode::Windows(EXACT), "{limit}");
        let before = target.now.work.entries[0];
        assert_eq!(follow(&mut budget, &mut target, Duration::from_secs(60)), []);
        let share = target.share(Reading::default());
        assert!(share <= limit, "{share} of {limit}");
        assert!(share > limit / 2.0, "{share} of {limit} is too shy");
        assert!(target.now.work.entries[0] > before, "no window at {limit}");
    }
}

#[test]
fn a_storm_is_cut_off_at_once_and_counting_comes_back_after_it() {
    let mut target = Target::new(100_000.0);
    let (mut budget, _) = begin(&mut target, 0.05, Choice::Auto);
    follow(&mut budget, &mut target, Duration::from_secs(20));
    target.pair = 300.0;
    let before = target.now;
    let verdicts = follow(&mut budget, &mut target, Duration::from_secs(20));
    assert!(
        verdicts
            .iter()
            .any(|verdict| matches!(verdict, Verdict::Cut(share, Mode::Windows(_)) if *share > 0.1)),
        "{verdicts:?}"
    );
    // What was saved up before may be spent.
    assert!(target.share(before) < 0.05 + 0.05 * 5.0 / 20.0, "{}", target.share(before));
    target.pair = 100_000.0;
    let verdicts = follow(&mut budget, &mut target, Duration::from_secs(60));
    assert_eq!(verdicts.last(), Some(&Verdict::Switch(Mode::Steady(EXACT))));
}

#[test]
fn what_the_user_fixed_stays() {
    let mut target = Target::new(300.0);
    let (mut budget, mode) = begin(&mut target, 0.05, Choice::Fixed(16));
    assert_eq!(mode, Mode::Windows(16));
    target.pair = 1e6;
    let verdicts = follow(&mut budget, &mut target, Duration::from_secs(60));
    assert_eq!(verdicts, [Verdict::Switch(Mode::Steady(16))]);
}

#[test]
fn a_budget_that_never_pays_for_a_window_is_said_to() {
    let mut target = Target::new(300.0);
    let (mut budget, _) = begin(&mut target, 0.0001, Choice::Auto);
    assert_eq!(budget.window(target.now, Duration::ZERO), Due::Never);
}

#[test]
fn a_target_that_hardly_runs_is_left_alone() {
    // A fifth of its CPU time goes into tracing, but that is a two-hundredth of a processor.
    let mut target = Target::new(6_000.0);
    target.busy = 0.025;
    let (mut budget, mode) = begin(&mut target, 0.1, Choice::Auto);
    assert_eq!(mode, Mode::Steady(EXACT));
    assert_eq!(follow(&mut budget, &mut target, Duration::from_secs(60)), []);
}

#[test]
fn a_debt_is_cut_off_before_the_share_is_certain() {
    let mut target = Target::new(100_000.0);
    let (mut budget, mode) = begin(&mut target, 0.05, Choice::Auto);
    assert_eq!(mode, Mode::Steady(EXACT));
    // A hundred processors' worth of calls in a twentieth of a second.
    target.busy = 100.0;
    target.pair = 300.0;
    let now = target.run(Duration::from_millis(50), Probes::All(EXACT));
    let verdict = budget.observe(now);
    assert!(matches!(verdict, Verdict::Cut(share, Mode::Windows(_)) if share > 0.1), "{verdict:?}");
}
