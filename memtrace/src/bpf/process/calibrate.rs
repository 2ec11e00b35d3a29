//! What a probe costs on this machine: measured on functions of this process.

use std::{arch::naked_asm, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::model::Prices;

use super::{
    attach::Link,
    detach::detach_later,
    idle,
    programs::{Method, Name},
    tracer::Tracer,
};
use crate::bpf::shared::error::Error;

/// The approximate time of a batch in ns, and the number of batches: the median batch counts.
const BATCH: f64 = 60_000.0;
const BATCHES: usize = 9;

/// What a trap costs the code around it through cold caches and predictors, on top of its own time. `cargo xtask bench`
/// compares the actual cost of tracing with the reported one: pair loops, python3 and a C++ program lost between 0.95
/// and 1.08 times the estimate without this.
const AFTERMATH: f64 = 1.05;

/// Functions that begin with an instruction that the kernel emulates, or with one that it single-steps. Their lengths
/// differ, so that they are not merged.
macro_rules! functions {
    ($($name:ident: $($instruction:literal)+;)*) => {$(
        #[unsafe(naked)]
        extern "C" fn $name() {
            naked_asm!($($instruction),+)
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
functions! {
    freeing: "push rbp" "pop rbp" "ret";
    calling: "push rbp" "nop" "pop rbp" "ret";
    left_out: "push rbp" "nop" "nop" "pop rbp" "ret";
    stepped: "test rdi, rdi" "ret";
}

#[cfg(target_arch = "aarch64")]
functions! {
    freeing: "nop" "ret";
    calling: "nop" "nop" "ret";
    left_out: "nop" "nop" "nop" "ret";
    stepped: "add x0, x0, #0" "ret";
}

impl Tracer {
    /// Measures what probes cost on this machine. Takes about 20 ms, and leaves detaching to a thread.
    ///
    /// # Errors
    /// The kernel refused a probe.
    pub fn calibrate(&mut self) -> Result<Prices, Error> {
        let mut links = Vec::new();
        let prices = self.measure(&mut links);
        detach_later(links);
        prices
    }

    fn measure(&mut self, links: &mut Vec<Link>) -> Result<Prices, Error> {
        let session = self.method() == Method::Session;
        let mut price = |function: extern "C" fn(), programs: &[Name]| -> Result<f64, Error> {
            let bare = time(function);
            for &program in programs {
                self.attach_nothing(function, program, links)?;
            }
            Ok((time(function) - bare).max(1.0) * AFTERMATH)
        };
        let free = price(freeing, &[Name::NothingEnter])?;
        let (call, left_out) = if session {
            (price(calling, &[Name::NothingSession])?, price(left_out, &[Name::NothingSkip])?)
        } else {
            let call = price(calling, &[Name::NothingLeave, Name::NothingEnter])?;
            (call, call)
        };
        let stepping = (price(stepped, &[Name::NothingEnter])? - free).max(0.0);
        tracing::debug!(
            "probes cost {free:.0} ns on a free, {call:.0} ns on an allocation, {left_out:.0} ns on one that is left \
             out, {stepping:.0} ns more where the instruction is single-stepped"
        );
        Ok(Prices { free, call, left_out, stepping })
    }

    fn attach_nothing(
        &mut self,
        function: extern "C" fn(),
        program: Name,
        links: &mut Vec<Link>,
    ) -> Result<(), Error> {
        let offset = file_offset(function as *const () as u64)?;
        let (ebpf, programs) = self.parts();
        idle::attach_nothing(ebpf, programs, program, offset, links)
    }
}

/// The offset in this program's file of an address of its code.
///
/// # Errors
/// `/proc` cannot be read.
pub(in crate::bpf) fn file_offset(address: u64) -> Result<u64, Error> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(Error::io("reading /proc/self/maps"))?;
    let offset = maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        let (start, end, offset) = (number(start)?, number(end)?, number(fields.nth(1)?)?);
        (start..end).contains(&address).then(|| address - start + offset)
    });
    Ok(offset.unwrap_or(0))
}

/// CPU time of a call in ns, followed by some code as in a target.
fn time(function: extern "C" fn()) -> f64 {
    let batch = |calls: u32| {
        let begin = thread_time();
        for _ in 0..calls {
            std::hint::black_box(function)();
            for size in [24, 300, 48, 1000] {
                drop(std::hint::black_box(Vec::<u8>::with_capacity(std::hint::black_box(size))));
            }
        }
        (thread_time() - begin).as_nanos() as f64 / f64::from(calls)
    };
    let calls = (BATCH / batch(4).max(1.0)).clamp(4.0, 400.0) as u32;
    let mut batches = [0.0; BATCHES];
    batches.fill_with(|| batch(calls));
    batches.sort_by(f64::total_cmp);
    batches[BATCHES / 2]
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
