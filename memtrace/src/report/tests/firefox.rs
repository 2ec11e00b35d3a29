//! The Firefox Profiler's format: its tables lead to the same stacks as folded ones.

use super::{assert_harmless, formats::reports, report, verdicts::judged};
use crate::report::{Firefox, Folded};

/// The names of each sample's stack and its weight, as the profiler reads them.
fn samples(profile: &serde_json::Value) -> Vec<(String, u64)> {
    let place = |value: &serde_json::Value| value.as_u64().map(|place| usize::try_from(place).unwrap());
    let mut samples = Vec::new();
    for thread in profile["threads"].as_array().unwrap() {
        assert_eq!(thread["samples"]["weightType"], "bytes");
        let weights = thread["samples"]["weight"].as_array().unwrap();
        for (stack, weight) in thread["samples"]["stack"].as_array().unwrap().iter().zip(weights) {
            let (mut names, mut at) = (Vec::new(), place(stack));
            while let Some(stack) = at {
                let frame = place(&thread["stackTable"]["frame"][stack]).unwrap();
                let function = place(&thread["frameTable"]["func"][frame]).unwrap();
                let name = place(&thread["funcTable"]["name"][function]).unwrap();
                names.insert(0, thread["stringArray"][name].as_str().unwrap().replace(';', ":"));
                at = place(&thread["stackTable"]["prefix"][stack]);
            }
            samples.push((names.join(";"), weight.as_u64().unwrap()));
        }
    }
    samples
}

#[test]
fn firefox() {
    for report in reports() {
        let text = report.written(Firefox);
        let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
        let samples = samples(&profile);
        samples.iter().for_each(|(name, _)| assert_harmless(name));
        let mut lines: Vec<String> =
            samples.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
        let folded = report.written(Folded::default());
        let mut expected: Vec<&str> = folded.lines().filter(|line| *line != "[nothing] 0").collect();
        lines.sort();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }
    // The categories are verdicts.
    let profile: serde_json::Value = serde_json::from_str(&judged().written(Firefox)).unwrap();
    let categories: Vec<_> = profile["meta"]["categories"].as_array().unwrap().iter().collect();
    let of = |frame: &serde_json::Value| {
        categories[usize::try_from(frame.as_u64().unwrap()).unwrap()]["name"].clone()
    };
    let frames = profile["threads"][0]["frameTable"]["category"].as_array().unwrap();
    assert_eq!(of(&frames[0]), "growing");
    // What is too much for one sample is several.
    let mut large = report();
    large.stacks.truncate(1);
    large.stacks[0].outstanding.bytes = 5 << 30;
    let profile: serde_json::Value = serde_json::from_str(&large.written(Firefox)).unwrap();
    let samples = samples(&profile);
    assert_eq!((samples.len(), samples.iter().map(|(_, weight)| weight).sum::<u64>()), (3, 5 << 30));
}
