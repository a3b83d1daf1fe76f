//! A histogram as lines of text.

/// Longest bar, in characters.
const BAR_WIDTH: usize = 50;

/// How many values lie between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bin {
    pub low: usize,
    pub high: usize,
    pub count: usize,
}

/// Groups `counts` (how often each value occurs) into at most `most` bins of one width, from
/// the smallest value that occurs to the largest; the last bin ends there.
pub fn bins(counts: &[usize], most: usize) -> Vec<Bin> {
    let occurs = |count: &usize| *count > 0;
    let (Some(first), Some(last)) = (counts.iter().position(occurs), counts.iter().rposition(occurs)) else {
        return Vec::new();
    };
    let width = (last - first + 1).div_ceil(most.max(1));
    let groups = counts[first..=last].chunks(width).enumerate();
    let bin = |(group, counts): (usize, &[usize])| {
        let low = first + group * width;
        Bin { low, high: low + counts.len() - 1, count: counts.iter().sum() }
    };
    groups.map(bin).collect()
}

/// One line per bin: its bounds, its count, and a bar. A bin with any value has a bar.
pub fn lines(bins: &[Bin]) -> Vec<String> {
    let largest = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let count_width = largest.to_string().len();
    let labels: Vec<String> = bins.iter().map(label).collect();
    let label_width = labels.iter().map(String::len).max().unwrap_or(0);
    let line = |(label, bin): (&String, &Bin)| {
        let bar = "#".repeat((bin.count * BAR_WIDTH).div_ceil(largest));
        let line = format!("{label:>label_width$}  {:>count_width$}  {bar}", bin.count);
        line.trim_end().to_owned()
    };
    labels.iter().zip(bins).map(line).collect()
}

/// An empty line, a title, and the [`lines`] of so many [`bins`] at most. Nothing if nothing was counted.
pub fn titled(title: &str, counts: &[usize], most: usize) -> String {
    let lines = lines(&bins(counts, most));
    if lines.is_empty() {
        return String::new();
    }
    format!("\n{title}\n{}\n", lines.join("\n"))
}

fn label(bin: &Bin) -> String {
    if bin.low == bin.high { bin.low.to_string() } else { format!("{}-{}", bin.low, bin.high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(low: usize, high: usize, count: usize) -> Bin {
        Bin { low, high, count }
    }

    #[test]
    fn every_value_is_in_one_bin() {
        let counts: Vec<usize> = (0..=32).collect();
        for most in 1..40 {
            let bins = bins(&counts, most);
            assert!(bins.len() <= most);
            assert_eq!(bins.iter().map(|bin| bin.count).sum::<usize>(), 32 * 33 / 2);
            assert_eq!((bins[0].low, bins[bins.len() - 1].high), (1, 32));
            assert!(bins.windows(2).all(|pair| pair[0].high + 1 == pair[1].low));
        }
    }

    #[test]
    fn empty_ends_are_cut_off() {
        assert!(bins(&[], 20).is_empty());
        assert!(bins(&[0, 0], 20).is_empty());
        assert_eq!(bins(&[0, 0, 7, 0], 20), [bin(2, 2, 7)]);
        assert_eq!(bins(&[1, 0, 2, 3, 4], 2), [bin(0, 2, 3), bin(3, 4, 7)]);
    }

    #[test]
    fn what_was_not_counted_has_no_title() {
        assert_eq!(titled("levels", &[0, 0], 20), "");
        let bar = "#".repeat(50);
        assert_eq!(titled("levels", &[0, 7], 20), format!("\nlevels\n1  7  {bar}\n"));
    }

    #[test]
    fn bars_are_proportional_and_never_vanish() {
        let lines = lines(&[bin(8, 9, 1_000), bin(10, 11, 500), bin(12, 12, 1), bin(13, 13, 0)]);
        let long = "#".repeat(50);
        let half = "#".repeat(25);
        let expected = [
            format!("  8-9  1000  {long}"),
            format!("10-11   500  {half}"),
            "   12     1  #".to_owned(),
            "   13     0".to_owned(),
        ];
        assert_eq!(lines, expected);
    }
}
