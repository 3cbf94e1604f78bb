//! The table and its statistics.

use std::fmt;

/// One number a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// The ratio within each round, which cancels what slows down both sides.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// The difference within each round.
    pub(crate) fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that at least `share` of the samples do not exceed; 0.5 gives the median.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let sorted = self.sorted();
        // The rank is positive and small enough for a float.
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The duration of an undisturbed turn: other load of the machine makes turns longer, never shorter.
    pub(crate) fn undisturbed(&self) -> f64 {
        self.percentile(0.1)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// The median with the least and the greatest sample; a single sample alone.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = number(self.percentile(0.5));
        match self.sorted()[..] {
            [least, .., most] => write!(f, "{median} ({}–{})", number(least), number(most)),
            _ => write!(f, "{median}"),
        }
    }
}

/// Rounds to the significant digits.
fn number(number: f64) -> String {
    if number < 10.0 {
        return format!("{number:.2}");
    }
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

const HEAD: [&str; 5] = ["what", "mesh", "reference", "mesh ÷ reference", "goal"];

/// The table. Each row is also printed to standard error at once, to show progress.
#[derive(Default)]
pub(crate) struct Report(Vec<[String; 5]>);

impl Report {
    /// Adds a row with mesh and a reference that was measured in the same rounds.
    pub(crate) fn compare(&mut self, what: &str, mesh: &Samples, name: &str, reference: &Samples, goal: &str) {
        let ratio = mesh.over(reference).to_string();
        self.line([what, &mesh.to_string(), &format!("{name}: {reference}"), &ratio, goal]);
    }

    /// Adds a row with mesh and no reference.
    pub(crate) fn alone(&mut self, what: &str, mesh: &Samples, goal: &str) {
        self.line([what, &mesh.to_string(), "", "", goal]);
    }

    /// Adds a row with the machine's own number.
    pub(crate) fn machine(&mut self, what: &str, samples: &Samples) {
        self.line([what, "", &samples.to_string(), "", ""]);
    }

    /// Adds a row that could not be measured, with the reason.
    pub(crate) fn missing(&mut self, what: &str, why: &str) {
        self.line([what, "not measured", why, "", ""]);
    }

    fn line(&mut self, cells: [&str; 5]) {
        eprintln!("{}", cells.join("  ").trim_end());
        self.0.push(cells.map(ToOwned::to_owned));
    }
}

/// Markdown, aligned for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = HEAD.map(ToOwned::to_owned);
        let width = |column: usize| {
            let cells = std::iter::once(&head).chain(&self.0).map(|line| line[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        let write = |f: &mut fmt::Formatter<'_>, line: &[String; 5]| {
            line.iter().zip(widths).try_for_each(|(cell, width)| write!(f, "| {cell:width$} "))?;
            writeln!(f, "|")
        };
        write(f, &head)?;
        write(f, &widths.map(|width| "-".repeat(width)))?;
        self.0.iter().try_for_each(|line| write(f, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_print_median_spread_and_ratio_per_round() {
        let mesh = Samples(vec![30.0, 10.0, 1_000_000.0]);
        let limit = Samples(vec![60.0, 10.0, 2_000_000.0]);
        assert_eq!(mesh.to_string(), "30 (10–1,000,000)");
        assert_eq!(mesh.over(&limit).to_string(), "0.50 (0.50–1.00)");
        assert_eq!(Samples(vec![1_234.0]).to_string(), "1,234");
    }

    #[test]
    fn percentile_99_is_below_one_in_a_hundred() {
        let samples = Samples((1..=200).map(f64::from).collect());
        assert_eq!((samples.percentile(0.5), samples.percentile(0.99)), (100.0, 198.0));
    }
}
