//! How evenly the bytes of a topic fall on its partitions.
//!
//! It owns what each partition has got in all and lately, and the judgement that one of them is hot. It reads no clock: a
//! while is over when the topic has had a number of batches. Invariant: a hot partition is told once a spell.

#[derive(Debug, Default)]
pub(crate) struct Heat {
    /// For each partition: bytes in all, and lately.
    partitions: Vec<(u64, u64)>,
    lately: u64,
    hot: Option<usize>,
}

/// A partition that is hot, its bytes and those of the topic.
pub(crate) type Hot = (i32, u64, u64);

/// Batches a partition, on average, after which it is looked at.
const BATCHES: u64 = 32;

impl Heat {
    /// A full batch of so many bytes goes to a partition. Says which one is hot now, if that is new.
    pub(crate) fn add(&mut self, partition: i32, bytes: usize, batch_size: usize) -> Option<Hot> {
        let at = usize::try_from(partition).ok()?;
        if at >= self.partitions.len() {
            self.partitions.resize(at + 1, (0, 0));
        }
        let (all, lately) = self.partitions.get_mut(at)?;
        *all += bytes as u64;
        *lately += bytes as u64;
        self.lately += bytes as u64;
        let while_bytes = BATCHES * batch_size.max(1) as u64 * self.partitions.len() as u64;
        if self.lately >= while_bytes { self.judge() } else { None }
    }

    /// A while is over.
    fn judge(&mut self) -> Option<Hot> {
        let (count, of) = (self.partitions.len() as u64, std::mem::take(&mut self.lately));
        let lately = self.partitions.iter_mut().map(|(_, lately)| std::mem::take(lately)).enumerate();
        let (hottest, bytes) = lately.max_by_key(|(_, bytes)| *bytes)?;
        let is_hot = count > 2 && (bytes * 2 > of || bytes * count > 4 * of);
        let before = std::mem::replace(&mut self.hot, is_hot.then_some(hottest));
        let told = self.hot.filter(|hot| before != Some(*hot))?;
        Some((i32::try_from(told).ok()?, bytes, of))
    }

    /// Bytes that each of so many partitions has got.
    pub(crate) fn bytes(&self, partitions: usize) -> Vec<u64> {
        let known = self.partitions.iter().map(|(all, _)| *all);
        known.chain(std::iter::repeat(0)).take(partitions).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds batches of 100 bytes to the partitions in turn, so many rounds, and returns which partitions were told hot.
    fn check(heat: &mut Heat, rounds: usize, turn: &[i32], expected: &[i32]) {
        let batches = (0..rounds).flat_map(|_| turn);
        let hot: Vec<i32> = batches.filter_map(|at| heat.add(*at, 100, 100)).map(|(at, ..)| at).collect();
        assert_eq!(hot, expected);
    }

    #[test]
    fn even_partitions_are_not_hot() {
        check(&mut Heat::default(), 1_000, &[0, 1, 2, 3], &[]);
    }

    #[test]
    fn a_partition_with_most_of_the_bytes_is_told_once_a_spell() {
        let mut heat = Heat::default();
        check(&mut heat, 100, &[3, 0, 1, 2], &[]);
        check(&mut heat, 1_000, &[1, 1, 1, 1, 1, 0, 2, 3], &[1]);
        check(&mut heat, 1_000, &[0, 1, 2, 3], &[]);
        check(&mut heat, 1_000, &[1, 1, 1, 1, 1, 0, 2, 3], &[1]);
        check(&mut heat, 1_000, &[2, 2, 2, 2, 2, 0, 1, 3], &[2]);
        assert_eq!(heat.bytes(5).len(), 5);
        assert_eq!(heat.bytes(4).iter().sum::<u64>(), 100 * (400 + 4_000 + 3 * 8_000));
    }

    #[test]
    fn of_many_partitions_four_times_the_average_is_hot() {
        let mut turn: Vec<i32> = (0..20).collect();
        turn.extend([7; 4]);
        check(&mut Heat::default(), 1_000, &turn, &[7]);
    }

    #[test]
    fn of_two_partitions_none_is_hot() {
        check(&mut Heat::default(), 1_000, &[0, 0, 0, 0, 0, 1], &[]);
    }
}
