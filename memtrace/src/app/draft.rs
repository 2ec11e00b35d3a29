//! A report or a line of a trace whose functions have no names yet.

use std::sync::Arc;

use crate::{
    model::{Event, Frame, units::format_count},
    symbolize::{Place, Symbolizer},
    target::Location,
};

/// What is to be written, and where its frames are.
pub struct Draft {
    event: Event,
    /// Of each row: a report's stacks, then its mappings.
    places: Vec<Arc<[Location]>>,
}

impl Draft {
    pub(super) fn new(event: Event, places: Vec<Arc<[Location]>>) -> Self {
        Self { event, places }
    }

    /// Whether it is a report.
    pub(super) fn is_report(&self) -> bool {
        matches!(self.event, Event::Snapshot(_))
    }

    /// Has its functions looked up. Returns whether there is something to wait for.
    pub(super) fn ask(&self, symbolizer: &mut Symbolizer) -> bool {
        symbolizer.ask(self.places().map(place));
        self.unnamed(symbolizer) > 0
    }

    fn places(&self) -> impl Iterator<Item = &Location> {
        self.places.iter().flat_map(|places| places.iter())
    }

    fn unnamed(&self, symbolizer: &Symbolizer) -> usize {
        self.places().filter(|location| symbolizer.is_asked(&place(location))).count()
    }

    /// With the names that are known now. What others are missing it says itself.
    pub(super) fn named(mut self, symbolizer: &mut Symbolizer) -> Event {
        let unnamed = self.unnamed(symbolizer);
        if unnamed > 0 && self.is_report() {
            symbolizer.give_up();
        }
        let mut rows = self.places.iter().map(|places| -> Vec<Frame> {
            places.iter().flat_map(|location| symbolizer.frames(&place(location))).collect()
        });
        match &mut self.event {
            Event::Snapshot(snapshot) => {
                let stacks = snapshot.stacks.iter_mut().map(|row| &mut row.frames);
                let mappings = snapshot.mappings.iter_mut().map(|row| &mut row.frames);
                stacks.chain(mappings).zip(&mut rows).for_each(|(frames, row)| *frames = row);
                snapshot.notes.extend_from_slice(symbolizer.notes());
                snapshot.losses.names_given_up = symbolizer.given_up();
                if unnamed > 0 {
                    let frames = format_count(u64::try_from(unnamed).unwrap_or(u64::MAX), "frame");
                    snapshot.notes.push(format!(
                        "looking up functions takes long: {frames} of this report could not be named in time"
                    ));
                }
            }
            Event::Allocation(event) => event.frames = rows.next().unwrap_or_default(),
        }
        drop(rows);
        self.event
    }

    /// As it is, where nothing can be named.
    pub(super) fn bare(self) -> Event {
        self.event
    }
}

fn place(location: &Location) -> Place<'_> {
    let module = &location.module;
    Place {
        module: &module.name,
        // What is no ELF file that we read has no names that we read.
        code: module.image().and(module.code()),
        address: location.address,
        is_return: location.is_return,
    }
}
