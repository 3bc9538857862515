//! Figures of several rounds, and their table.

use nestmatrix::report::{Entry, Line, Role, Style, Table};

/// The measurements of one yardstick, one for each round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds a round's figure.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Whether there is no figure.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The median; none without figures.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(f64::midpoint(lower, upper))
    }

    /// The smallest and the largest figure; none without figures.
    pub fn spread(&self) -> Option<(f64, f64)> {
        let smallest = self.0.iter().copied().min_by(f64::total_cmp)?;
        let largest = self.0.iter().copied().max_by(f64::total_cmp)?;
        Some((smallest, largest))
    }
}

/// A row of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    yardstick: String,
    ratio: String,
    spread: String,
    seconds: String,
    target: String,
    result: String,
}

impl Row {
    /// Times, judged by their ratio to the script's time of the same round.
    pub fn ratio(yardstick: &str, ratios: &Series, seconds: &Series, limit: Option<f64>) -> Self {
        Self {
            yardstick: yardstick.to_owned(),
            ratio: two_places(ratios.median()),
            spread: range(ratios),
            seconds: two_places(seconds.median()),
            target: limit.map_or_else(none, |limit| format!("<= {limit:.2}")),
            result: judged(ratios.median(), limit),
        }
    }

    /// Times, judged in seconds.
    pub fn seconds(yardstick: &str, seconds: &Series, limit: Option<f64>) -> Self {
        Self {
            yardstick: yardstick.to_owned(),
            ratio: none(),
            spread: range(seconds),
            seconds: two_places(seconds.median()),
            target: limit.map_or_else(none, |limit| format!("<= {limit:.2} s")),
            result: judged(seconds.median(), limit),
        }
    }

    /// A result without a time.
    pub fn fact(yardstick: &str, target: &str, result: String) -> Self {
        let (yardstick, target) = (yardstick.to_owned(), target.to_owned());
        Self { yardstick, ratio: none(), spread: none(), seconds: none(), target, result }
    }

    /// Replaces the result.
    pub fn with_result(self, result: String) -> Self {
        Self { result, ..self }
    }

    /// Adds a remark to the result.
    pub fn with_remark(self, remark: &str) -> Self {
        let result = match self.result.as_str() {
            "-" => remark.to_owned(),
            result => format!("{result}, {remark}"),
        };
        self.with_result(result)
    }

    fn cells(&self) -> [&str; 6] {
        [&self.yardstick, &self.ratio, &self.spread, &self.seconds, &self.target, &self.result]
    }
}

/// The table with its headings.
pub fn table(rows: &[Row]) -> String {
    let headings = ["yardstick", "ratio", "min-max", "seconds", "target", "result"];
    let mut table = Table::default();
    for cells in std::iter::once(headings).chain(rows.iter().map(Row::cells)) {
        // Figures are right-aligned, words left-aligned.
        let entries = cells.iter().enumerate().map(|(column, cell)| match column {
            1..=3 => Entry::right(*cell, Role::Plain),
            _ => Entry::new(*cell, Role::Plain),
        });
        table.push(Line::Entries(entries.collect()));
    }
    table.render(0, &Style::plain())
}

fn none() -> String {
    "-".to_owned()
}

fn two_places(figure: Option<f64>) -> String {
    figure.map_or_else(none, |figure| format!("{figure:.2}"))
}

fn range(series: &Series) -> String {
    series.spread().map_or_else(none, |(smallest, largest)| format!("{smallest:.2}-{largest:.2}"))
}

/// Compares the exact figure, not the rounded one, with its limit.
fn judged(figure: Option<f64>, limit: Option<f64>) -> String {
    match (figure, limit) {
        (Some(figure), Some(limit)) if figure <= limit => "ok".to_owned(),
        (Some(_), Some(_)) => "over".to_owned(),
        _ => none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn series(figures: &[f64]) -> Series {
        Series(figures.to_vec())
    }

    #[rstest]
    #[case::none(&[], None, None)]
    #[case::one(&[3.0], Some(3.0), Some((3.0, 3.0)))]
    #[case::odd_and_out_of_order(&[9.0, 1.0, 2.0], Some(2.0), Some((1.0, 9.0)))]
    #[case::even(&[4.0, 1.0, 2.0, 9.0], Some(3.0), Some((1.0, 9.0)))]
    fn rounds_have_a_median_and_a_spread(
        #[case] figures: &[f64],
        #[case] median: Option<f64>,
        #[case] spread: Option<(f64, f64)>,
    ) {
        assert_eq!((series(figures).median(), series(figures).spread()), (median, spread));
    }

    #[test]
    fn the_table_judges_ratios_or_seconds_and_marks_missing_figures() {
        let rows = [
            Row::ratio(
                "one cold stack",
                &series(&[0.8, 0.9, 0.84]),
                &series(&[30.0, 31.0, 29.0]),
                Some(0.85),
            ),
            Row::ratio("from a snapshot", &series(&[0.352]), &series(&[12.0]), Some(0.35)),
            Row::ratio("the matrix", &Series::default(), &Series::default(), Some(0.4))
                .with_remark("1 missed"),
            Row::seconds("planning", &series(&[0.5]), Some(1.0)).with_remark("102400 cells"),
            Row::fact("memory of two cells", "<= 6144 MiB", "ok, 4000 MiB".into()),
        ];
        insta::assert_snapshot!(table(&rows), @r"
        yardstick            ratio    min-max  seconds  target       result
        one cold stack        0.84  0.80-0.90    30.00  <= 0.85      ok
        from a snapshot       0.35  0.35-0.35    12.00  <= 0.35      over
        the matrix               -          -        -  <= 0.40      1 missed
        planning                 -  0.50-0.50     0.50  <= 1.00 s    ok, 102400 cells
        memory of two cells      -          -        -  <= 6144 MiB  ok, 4000 MiB
        ");
    }
}
