//! How a file is sent: whole, or in parts.

/// Largest file that is sent whole, in bytes. A larger one would have to be sent again from its start when a connection
/// breaks.
pub const MAX_WHOLE_BYTES: u64 = 5 * MIB;
/// Smallest part, but for a file's last, in bytes. S3 takes 5 MiB at least; larger parts are fewer links.
pub const MIN_PART_BYTES: u64 = 8 * MIB;
/// Most parts of a file, so that the answer with their links stays under Lambda's 6 MB. (S3 takes 10,000.)
pub const MAX_PARTS: u64 = 1_000;

const MIB: u64 = 1_024 * 1_024;

/// The size of a file's parts in bytes; `None` if it is sent whole.
pub fn part_size(size_bytes: u64) -> Option<u64> {
    (size_bytes > MAX_WHOLE_BYTES)
        .then(|| size_bytes.div_ceil(MAX_PARTS).next_multiple_of(MIB).max(MIN_PART_BYTES))
}

/// The parts of a file: their numbers, from 1, and their sizes in bytes.
pub fn parts(size_bytes: u64, part_size_bytes: u64) -> impl Iterator<Item = (i32, u64)> {
    let starts = (0..size_bytes).step_by(usize::try_from(part_size_bytes.max(1)).unwrap_or(usize::MAX));
    (1..).zip(starts.map(move |start| part_size_bytes.min(size_bytes - start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn up_to_five_megabytes_are_sent_whole() {
        assert_eq!(part_size(1), None);
        assert_eq!(part_size(5_242_880), None);
        assert_eq!(part_size(5_242_881), Some(8_388_608));
        assert_eq!(part_size(100 * MIB), Some(8 * MIB));
        assert_eq!(parts(100 * MIB, 8 * MIB).last(), Some((13, 4 * MIB)));
        assert_eq!(parts(16 * MIB, 8 * MIB).collect::<Vec<_>>(), [(1, 8 * MIB), (2, 8 * MIB)]);
        assert_eq!(parts(6 * MIB, 8 * MIB).collect::<Vec<_>>(), [(1, 6 * MIB)]);
    }

    proptest! {
        #[test]
        fn the_parts_are_the_file(size in MAX_WHOLE_BYTES + 1..100_000 * MIB) {
            let part = part_size(size).unwrap();
            prop_assert!(part.is_multiple_of(MIB) && part >= MIN_PART_BYTES);
            let all: Vec<_> = parts(size, part).collect();
            prop_assert!(all.len() as u64 <= MAX_PARTS);
            prop_assert_eq!(all.iter().map(|(_, size)| size).sum::<u64>(), size);
            prop_assert!(all.iter().rev().skip(1).all(|(_, size)| *size == part));
            prop_assert!((1..).zip(&all).all(|(n, (number, _))| n == *number));
        }
    }
}
