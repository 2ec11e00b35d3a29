//! Who may watch a program.

use super::agent::Limit;
use super::build::is_installed;
use super::outside::Wrapper;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Untraced,
    /// Every allocation, with whole stacks.
    Exact,
    /// The default, without options.
    Default,
    Sampled,
    /// Probes at the same places that do nothing: what exact tracing cannot be cheaper than.
    Empty3,
    /// Without probes on returns, as where nothing is sampled.
    Empty2,
    /// The caller alone: everything but the walk.
    Caller,
    /// The kernel's own walk at the same place, on top of that.
    Kernel,
    FirstByte,
    /// Return probes on every function, even where they can end the program.
    ReturnProbes,
    /// Another build of the agent.
    Against,
    /// A part of the kernel side switched off.
    Without(&'static str),
    Bpftrace,
    Under(Wrapper),
}

impl Variant {
    /// As the table calls it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Untraced => "untraced".to_owned(),
            Self::Exact => "exact".to_owned(),
            Self::Default => "default: at most 10 %".to_owned(),
            Self::Sampled => "`--sample 512KiB`".to_owned(),
            Self::Empty3 => "three empty probes".to_owned(),
            Self::Empty2 => "two empty probes".to_owned(),
            Self::Caller => "`--stacks caller`: no walk".to_owned(),
            Self::Kernel => "`--stacks kernel`: `bpf_get_stackid`".to_owned(),
            Self::FirstByte => "`--first-byte`: probes at first bytes".to_owned(),
            Self::ReturnProbes => "`--return-probes`".to_owned(),
            Self::Against => "the other agent".to_owned(),
            Self::Without(part) => format!("`--without {part}`"),
            Self::Bpftrace => "bpftrace, `ustack`".to_owned(),
            Self::Under(Wrapper::Heaptrack) => "heaptrack".to_owned(),
            Self::Under(Wrapper::Valgrind) => "valgrind".to_owned(),
        }
    }

    /// How the agent is started, if it is the agent that watches.
    pub(super) fn agent(self) -> Option<(Limit, Vec<&'static str>)> {
        let options = match self {
            Self::Untraced | Self::Bpftrace | Self::Under(_) => return None,
            Self::Default => return Some((Limit::Default, Vec::new())),
            Self::Exact | Self::Against => vec![],
            Self::Sampled => vec!["--sample", "512KiB"],
            Self::Empty3 => vec!["--without", "everything"],
            Self::Empty2 => vec!["--sample", "512KiB", "--without", "everything"],
            Self::Caller => vec!["--stacks", "caller"],
            Self::Kernel => vec!["--stacks", "kernel"],
            Self::FirstByte => vec!["--first-byte"],
            Self::ReturnProbes => vec!["--return-probes"],
            Self::Without(part) => vec!["--without", part],
        };
        Some((Limit::Off, options))
    }

    /// The tool of others that it needs.
    fn tool(self) -> Option<&'static str> {
        match self {
            Self::Bpftrace => Some("bpftrace"),
            Self::Under(wrapper) => Some(wrapper.program()),
            _ => None,
        }
    }
}

/// Those whose tools are installed. Prints which are not.
pub(super) fn available(variants: &[Variant]) -> Vec<Variant> {
    let is_there = |variant: &Variant| {
        let missing = variant.tool().filter(|tool| !is_installed(tool));
        if let Some(tool) = missing {
            eprintln!("{tool} is not installed: left out");
        }
        missing.is_none()
    };
    variants.iter().copied().filter(is_there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_has_a_budget() {
        let limits = [Variant::Exact, Variant::Sampled, Variant::Empty3, Variant::Without("live")]
            .map(|variant| variant.agent().map(|(limit, _)| limit));
        assert_eq!(limits, [Some(Limit::Off); 4]);
        assert_eq!(Variant::Default.agent(), Some((Limit::Default, vec![])));
        assert_eq!(Variant::Under(Wrapper::Valgrind).agent(), None);
    }
}
