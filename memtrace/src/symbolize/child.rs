//! The child that reads files of strangers, from start to end.

use std::{
    fs::File,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::unistd::{Pid, getppid};

use super::{
    engine::Engine,
    sandbox,
    wire::{self, Answer, BATCH, Hello, Request},
};

/// Answers the agent, a process that has started this one with a socket as its standard input, until it closes it.
pub fn serve(agent: i32) {
    let agent = Pid::from_raw(agent);
    if agent != getppid() {
        return;
    }
    // SAFETY: only this function uses standard input in this process.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    let Ok(kept) = sandbox::enter(agent) else { return };
    if wire::send(&socket, &Hello { kept }, &[]).is_err() {
        return;
    }
    let mut engine = Engine::default();
    while let Ok(Some((request, files))) = wire::receive(&socket) {
        if wire::send(&socket, &answer(&mut engine, &request, &files), &[]).is_err() {
            return;
        }
    }
}

fn answer(engine: &mut Engine, request: &Request, files: &[File]) -> Answer {
    let mut answer = Answer::default();
    if let Some(load) = request.load {
        answer.problems = engine.load(request.file, load, files);
    }
    for &address in request.addresses.iter().take(BATCH) {
        answer.places.push(engine.name(request.file, address, &mut answer.problems));
    }
    answer
}
