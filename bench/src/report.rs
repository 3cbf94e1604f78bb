//! The table, and the little statistics that it needs.

use std::fmt;

/// One number a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// The ratio of each round: what slows both sides down alike is not in it.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// The difference of each round.
    pub(crate) fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What `share` of the samples are not above, with 0.5 for the median.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let sorted = self.sorted();
        // Positive, and far below what a float cannot count.
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// What turns take that nothing comes between: whatever else a machine has to do makes them longer, never shorter.
    pub(crate) fn undisturbed(&self) -> f64 {
        self.percentile(0.1)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// The median, and from where to where the rounds went; a single sample as it is.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = number(self.percentile(0.5));
        match self.sorted()[..] {
            [least, .., most] => write!(f, "{median} ({}–{})", number(least), number(most)),
            _ => write!(f, "{median}"),
        }
    }
}

/// With as many digits as mean something.
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

const HEAD: [&str; 5] = ["what", "the kit", "beside it", "the kit ÷ beside it", "goal"];

/// The table. Every line is also told on standard error when it is known, for whoever waits.
#[derive(Default)]
pub(crate) struct Report(Vec<[String; 5]>);

impl Report {
    /// The kit beside something else that was measured in the same rounds.
    pub(crate) fn compare(&mut self, what: &str, kit: &Samples, beside: &str, other: &Samples, goal: &str) {
        let ratio = kit.over(other).to_string();
        self.line([what, &kit.to_string(), &format!("{beside}: {other}"), &ratio, goal]);
    }

    /// The kit, where there is nothing to put beside it.
    pub(crate) fn alone(&mut self, what: &str, kit: &Samples, goal: &str) {
        self.line([what, &kit.to_string(), "", "", goal]);
    }

    /// What the machine does without the kit.
    pub(crate) fn machine(&mut self, what: &str, samples: &Samples) {
        self.line([what, "", &samples.to_string(), "", ""]);
    }

    /// What could not be measured, and why.
    pub(crate) fn missing(&mut self, what: &str, why: &str) {
        self.line([what, "not measured", why, "", ""]);
    }

    fn line(&mut self, cells: [&str; 5]) {
        eprintln!("{}", cells.join("  ").trim_end());
        self.0.push(cells.map(ToOwned::to_owned));
    }
}

/// As Markdown, and aligned for those who read it in a terminal.
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
    fn a_median_is_in_the_middle_and_a_ratio_is_of_one_round() {
        let kit = Samples(vec![30.0, 10.0, 1_000_000.0]);
        let limit = Samples(vec![60.0, 10.0, 2_000_000.0]);
        assert_eq!(kit.to_string(), "30 (10–1,000,000)");
        assert_eq!(kit.over(&limit).to_string(), "0.50 (0.50–1.00)");
        assert_eq!(Samples(vec![1_234.0]).to_string(), "1,234");
    }

    #[test]
    fn one_in_a_hundred_is_above_the_99th_percentile() {
        let samples = Samples((1..=200).map(f64::from).collect());
        assert_eq!((samples.percentile(0.5), samples.percentile(0.99)), (100.0, 198.0));
    }
}
