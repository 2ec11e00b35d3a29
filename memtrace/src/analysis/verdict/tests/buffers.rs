//! One block that is enlarged.

use super::{Grounds, Kind, Life, SEEN, Seen, judged_of};

/// Each time that it does not fit any longer, `realloc` frees the block and allocates a larger one.
#[test]
fn a_buffer_that_is_enlarged_all_the_time_grows() {
    let lives: Vec<Life> = (0..400).map(|n| (f64::from(n) / 10.0, f64::from(n + 1) / 10.0)).collect();
    let of = |size: fn(f64) -> f64| judged_of(&lives, SEEN, size);
    let grown = of(|time| 4096.0 * time);
    assert!(matches!(grown.0, Grounds::Enlarged { times: 30.. }), "{grown:?}");
    // Filled at the same rate, and doubled whenever it is full: when will that be again?
    for seconds in 12..40 {
        let (grounds, _) =
            judged_of(&lives, Seen { seconds, ..SEEN }, |time| (time + 1.0).log2().ceil().exp2() * 4096.0);
        assert!(grounds.kind() <= Kind::TooEarly, "after {seconds} s: {grounds:?}");
    }
    // Not for long enough, and one that is emptied now and then.
    let brief = judged_of(&lives, Seen { seconds: 15, ..SEEN }, |time| 4096.0 * time);
    assert_eq!(brief.0.kind(), Kind::WarmingUp, "{brief:?}");
    for seconds in 12..40 {
        let (grounds, _) = judged_of(&lives, Seen { seconds, ..SEEN }, |time| 4096.0 * (time % 19.0));
        assert!(grounds.kind() >= Kind::WarmingUp, "after {seconds} s: {grounds:?}");
    }
    // Up to the largest message so far, and to a size that depends on the message.
    assert_eq!(of(|time| 4096.0 * time.min(8.0)).0.kind(), Kind::Steady);
    assert_eq!(of(|time| 4096.0 * time.sqrt()).0.kind(), Kind::WarmingUp);
    assert_eq!(of(|time| 4096.0 * (time * 7.0 % 5.0)).0.kind(), Kind::Steady);
}
