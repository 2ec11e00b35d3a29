//! The kernel as a [`Source`].

use std::time::Duration;

use super::KernelSession;
use crate::{
    bpf::{BpfEvent, Events},
    session::{Draft, Names, Source, Step, Wanted, Watched},
};

/// Events taken in one step.
const BURST: usize = 4096;

/// What a session of kernel mode waits for.
pub(super) struct Streams(Watched<Events>);

impl Source for KernelSession {
    fn begin(&mut self) -> anyhow::Result<()> {
        self.aggregate.begin(self.started);
        self.caches.begin(self.started);
        self.streams = Some(Streams(Watched::new(self.tracer.take_events()?)?));
        Ok(())
    }

    async fn due(&mut self, room: bool) -> anyhow::Result<()> {
        match &mut self.streams {
            Some(Streams(events)) if room => events.readable().await,
            _ => std::future::pending().await,
        }
    }

    fn step(&mut self, drafts: &mut Vec<Draft>) -> anyhow::Result<Step> {
        self.take(drafts)?;
        Ok(Step::Wait)
    }

    fn take(&mut self, _: &mut Vec<Draft>) -> anyhow::Result<bool> {
        let Self { streams: Some(Streams(events)), frames, names, .. } = self else { return Ok(true) };
        for _ in 0..BURST {
            match events.inner().next() {
                Some(BpfEvent::KernelStack { slot, own, pcs }) => {
                    frames.insert(names.dictionary_mut(), slot, own as usize, &pcs);
                }
                Some(_) => {}
                None => {
                    events.exhausted();
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn report(&mut self, last: bool, wanted: Wanted<'_>) -> anyhow::Result<Draft> {
        let profile = self.profile(last, wanted)?;
        Ok(Draft::report(profile, &mut self.names, wanted))
    }

    fn mark(&mut self, ago: Duration) {
        let at = self.tracer.elapsed().saturating_sub(self.started);
        let at = at.saturating_sub(ago);
        self.marked.add(at, at);
    }

    fn names(&mut self) -> &mut Names {
        &mut self.names
    }
}
