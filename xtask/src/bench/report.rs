//! What the agent reports for scripts, as far as it matters here.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::stats::{bytes, percent};

/// One report.
#[derive(Deserialize)]
pub(super) struct Report {
    mode: Mode,
    overhead: Option<Overhead>,
    stacks: Vec<Stack>,
}

#[derive(Deserialize)]
struct Mode {
    exact: bool,
    sample_bytes: Option<u64>,
    #[serde(default)]
    sampling: bool,
    /// Of the time, between 0 and 1.
    attached_share: Option<f64>,
}

#[derive(Deserialize)]
struct Overhead {
    share: Option<f64>,
}

#[derive(Deserialize)]
struct Stack {
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    function: Option<String>,
}

impl Report {
    pub(super) fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).context("a report")
    }

    /// How it traced, and what it says that cost.
    pub(super) fn describe(&self) -> String {
        let mut text = match (self.mode.exact, self.mode.sample_bytes.filter(|_| self.mode.sampling)) {
            (_, Some(mean)) => format!("sampled at {}", bytes(mean)),
            (true, None) => "exact".to_owned(),
            (false, None) => "exact while attached".to_owned(),
        };
        if let Some(share) = self.mode.attached_share.filter(|share| *share < 0.9995) {
            text.push_str(&format!(", attached {} of the time", percent(share)));
        }
        if let Some(share) = self.overhead.as_ref().and_then(|overhead| overhead.share) {
            text.push_str(&format!(", reported cost {}", percent(share)));
        }
        text
    }

    /// Whether the stack that comes first has a frame of this function.
    pub(super) fn is_first(&self, function: &str) -> bool {
        let first = self.stacks.first();
        first
            .is_some_and(|stack| stack.frames.iter().any(|frame| frame.function.as_deref() == Some(function)))
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn a_report_tells_its_mode_and_its_first_stack() {
        let line = r#"{"schema":1,"mode":{"exact":false,"sample_bytes":524288,"sampling":true,"attached_share":0.25},
            "overhead":{"share":0.031,"limit":0.1},
            "stacks":[{"frames":[{"function":null},{"function":"keep"}]},{"frames":[{"function":"main"}]}]}"#;
        let report = Report::parse(line).unwrap();
        assert_eq!(report.describe(), "sampled at 512 KiB, attached 25 % of the time, reported cost 3.1 %");
        assert!(report.is_first("keep") && !report.is_first("main"));
    }

    #[test]
    fn what_an_exact_report_leaves_out_is_not_told() {
        let line = r#"{"mode":{"exact":true,"sample_bytes":null,"attached_share":1.0},"stacks":[]}"#;
        let report = Report::parse(line).unwrap();
        assert_eq!(report.describe(), "exact");
        assert!(!report.is_first("main"));
    }
}
