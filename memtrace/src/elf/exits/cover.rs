//! Chooses the sites to probe: few, and no exit without one.

use iced_x86::FlowControl;

use crate::model::{ExitFrame, ExitResult, ExitSite};

use super::{
    Incomplete,
    graph::{Exit, Graph, Node},
    registers::General,
    value::{Value, Values},
};

/// Which ways out of a node a site sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    All,
    Taken,
    NotTaken,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    node: usize,
    ways: Ways,
    result: ExitResult,
}

/// Chooses sites; their offsets are still ELF virtual addresses.
pub(super) fn choose(graph: &Graph, values: &Values, entry_site: u64) -> Result<Vec<ExitSite>, Incomplete> {
    // One for each node.
    let mut chosen: Vec<Option<Candidate>> = (0..graph.nodes.len())
        .map(|node| emulated(graph, values, node).filter(|_| address(graph, node) != Some(entry_site)))
        .collect();
    // Ways that no emulated instruction sees: the `ret` itself.
    for node in uncovered(graph, &chosen) {
        let Some(Exit::Result(General(register))) = graph.nodes.get(node).and_then(|node| node.exit) else {
            continue;
        };
        if address(graph, node) == Some(entry_site) {
            return Err(Incomplete::Code);
        }
        if let Some(site) = chosen.get_mut(node) {
            *site = Some(Candidate { node, ways: Ways::All, result: ExitResult::Register(register) });
        }
    }
    // Of two sites on one way, the later is dropped: the earlier sees the result before the function does anything
    // else. Nodes are numbered approximately in the order in which they are reached.
    for node in (0..chosen.len()).rev() {
        let Some(site) = chosen.get_mut(node).and_then(Option::take) else { continue };
        if !uncovered(graph, &chosen).is_empty()
            && let Some(place) = chosen.get_mut(node)
        {
            *place = Some(site);
        }
    }
    chosen.into_iter().flatten().map(|candidate| site(graph, candidate)).collect()
}

fn address(graph: &Graph, node: usize) -> Option<u64> {
    graph.nodes.get(node).map(Node::address)
}

/// Instructions after the last change of the result that the kernel emulates.
fn emulated(graph: &Graph, values: &Values, index: usize) -> Option<Candidate> {
    let node = graph.nodes.get(index).filter(|node| node.is_emulated && frame(node).is_some())?;
    let known = |value| match value {
        Value::Register(General(register)) => Some(ExitResult::Register(register)),
        Value::Zero => Some(ExitResult::Zero),
        Value::Open | Value::Varies => None,
    };
    if let Some(result) = known(values.at(Some(index))) {
        return Some(Candidate { node: index, ways: Ways::All, result });
    }
    if node.instruction.flow_control() != FlowControl::ConditionalBranch {
        return None;
    }
    let (taken, not_taken) = (known(values.at(node.taken)), known(values.at(node.next)));
    match (taken, not_taken) {
        // Both are known and differ: the site must see the way with the block.
        (Some(result @ ExitResult::Register(_)), _) | (Some(result), None) => {
            Some(Candidate { node: index, ways: Ways::Taken, result })
        }
        (_, Some(result)) => Some(Candidate { node: index, ways: Ways::NotTaken, result }),
        (None, None) => None,
    }
}

/// Exits with a result that can be reached without passing a site.
fn uncovered(graph: &Graph, sites: &[Option<Candidate>]) -> Vec<usize> {
    let mut seen = vec![false; graph.nodes.len()];
    let mut pending = vec![0];
    let mut exits = Vec::new();
    while let Some(index) = pending.pop() {
        let (Some(node), Some(seen)) = (graph.nodes.get(index), seen.get_mut(index)) else { continue };
        if std::mem::replace(seen, true) {
            continue;
        }
        match sites.get(index).copied().flatten().map(|site| site.ways) {
            Some(Ways::All) => continue,
            Some(Ways::Taken) => pending.extend(node.next),
            Some(Ways::NotTaken) => pending.extend(node.taken),
            None => pending.extend(node.successors()),
        }
        if matches!(node.exit, Some(Exit::Result(_))) {
            exits.push(index);
        }
    }
    exits
}

/// Where a node's canonical frame address is.
fn frame(node: &Node) -> Option<ExitFrame> {
    let words = |distance: Option<i64>| {
        let distance = u32::try_from(distance?).ok()?;
        (distance.is_multiple_of(8) && distance / 8 <= ExitFrame::MAX_WORDS).then_some(distance / 8)
    };
    let by_stack = words(node.stack.sp).map(ExitFrame::StackPointer);
    by_stack.or_else(|| words(node.stack.fp).map(ExitFrame::FramePointer))
}

fn site(graph: &Graph, candidate: Candidate) -> Result<ExitSite, Incomplete> {
    let node = graph.nodes.get(candidate.node).ok_or(Incomplete::Code)?;
    let code = node.instruction.condition_code() as u8;
    let condition = match candidate.ways {
        Ways::All => None,
        // iced numbers conditions from 1 (o, no, b, …), as instructions do from 0; the lowest bit negates.
        Ways::Taken => code.checked_sub(1),
        Ways::NotTaken => code.checked_sub(1).map(|code| code ^ 1),
    };
    Ok(ExitSite {
        offset: node.address(),
        emulated: node.is_emulated,
        frame: frame(node).ok_or(Incomplete::Stack)?,
        result: candidate.result,
        condition,
    })
}
