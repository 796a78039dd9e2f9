//! What the examples begin with, so that each of them shows its own subject and nothing else: options, a cluster and a
//! topic to play with, a file of earthquakes, payments, and counting. Nothing here is needed to use ottla.

mod arguments;
pub mod earthquakes;
pub mod payments;
mod playground;
mod tally;

pub use arguments::Arguments;
pub use playground::{Playground, fresh_name};
pub use tally::{Progress, Tally};

/// Whatever may go wrong in an example.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let comma = |at: usize| (at > 0 && (digits.len() - at).is_multiple_of(3)).then_some(',');
    digits.char_indices().flat_map(|(at, digit)| comma(at).into_iter().chain([digit])).collect()
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_have_a_comma_between() {
        let groups = [0, 12, 999, 1_000, 1_707, 1_024_200].map(grouped);
        assert_eq!(groups, ["0", "12", "999", "1,000", "1,707", "1,024,200"]);
    }
}
