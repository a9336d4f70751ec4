//! Answers of several cloudlets as one list.

/// Takes one of each list in turn, at most `limit` in all.
#[must_use]
pub fn interleave<T>(lists: Vec<Vec<T>>, limit: usize) -> Vec<T> {
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut merged = Vec::new();
    while merged.len() < limit {
        let round: Vec<T> = lists.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            break;
        }
        merged.extend(round);
    }
    merged.truncate(limit);
    merged
}

#[cfg(test)]
mod tests {
    use super::interleave;

    #[test]
    fn one_of_each_in_turn() {
        let lists = || vec![vec![1, 2, 3], vec![], vec![4], vec![5, 6]];
        assert_eq!(interleave(lists(), 9), [1, 4, 5, 2, 6, 3]);
        assert_eq!(interleave(lists(), 2), [1, 4]);
        assert_eq!(interleave::<u8>(vec![], 3), [0; 0]);
    }
}
