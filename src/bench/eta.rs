//! How long the rest of a bench will take, from what has been measured of it.
//!
//! Invariant: repetitions of an encode are expected to take what it took; an encode that has not run yet, what the others of
//! its encoder and mode took on average, else what all took.

use crate::bench::record::{Cell, Mode};

pub(crate) struct Eta {
    cells: Vec<Expected>,
    runs: usize,
    /// Seconds of each measurement so far.
    measured: Vec<f64>,
}

struct Expected {
    cell: Cell,
    runs_left: usize,
    measure_left: bool,
    took: Vec<f64>,
}

impl Eta {
    pub(crate) fn of<'c>(cells: impl Iterator<Item = &'c Cell>, runs: u16) -> Self {
        let runs = usize::from(runs);
        let expected =
            |cell: &Cell| Expected { cell: cell.clone(), runs_left: runs, measure_left: true, took: Vec::new() };
        Eta { cells: cells.map(expected).collect(), runs, measured: Vec::new() }
    }

    /// Some of a cell was done before.
    pub(crate) fn skip(&mut self, cell: &Cell, runs: usize, measured: bool) {
        if let Some(expected) = self.cells.iter_mut().find(|expected| expected.cell == *cell) {
            expected.runs_left = self.runs - runs;
            expected.measure_left = !measured;
        }
    }

    pub(crate) fn took(&mut self, cell: &Cell, seconds: f64) {
        if let Some(expected) = self.cells.iter_mut().find(|expected| expected.cell == *cell) {
            expected.took.push(seconds);
            expected.runs_left = expected.runs_left.saturating_sub(1);
        }
    }

    pub(crate) fn measured(&mut self, seconds: f64) {
        self.measured.push(seconds);
        // Cells are measured in the order in which they are first run.
        if let Some(expected) =
            self.cells.iter_mut().find(|expected| expected.measure_left && !expected.took.is_empty())
        {
            expected.measure_left = false;
        }
    }

    /// Encodes that are done, and all.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let of = self.cells.len() * self.runs;
        (of - self.cells.iter().map(|expected| expected.runs_left).sum::<usize>(), of)
    }

    /// Seconds; `None` before anything has been timed.
    pub(crate) fn rest(&self) -> Option<f64> {
        let all = mean(self.cells.iter().flat_map(|expected| &expected.took))?;
        let encodes: f64 =
            self.cells.iter().map(|expected| expected.runs_left as f64 * self.expected(expected, all)).sum();
        let metrics = self.cells.iter().filter(|expected| expected.measure_left).count();
        Some(encodes + metrics as f64 * mean(self.measured.iter()).unwrap_or(0.0))
    }

    /// The same, with a share of one of these encodes behind it.
    pub(crate) fn rest_within(&self, cell: &Cell, share: f64) -> Option<f64> {
        let all = mean(self.cells.iter().flat_map(|expected| &expected.took))?;
        let current = self.cells.iter().find(|expected| expected.cell == *cell)?;
        Some((self.rest()? - share * self.expected(current, all)).max(0.0))
    }

    fn expected(&self, of: &Expected, all: f64) -> f64 {
        let key =
            |cell: &Cell| -> (String, Option<String>, Mode) { (cell.encoder.clone(), cell.preset.clone(), cell.mode) };
        let alike = self.cells.iter().filter(|other| key(&other.cell) == key(&of.cell));
        mean(of.took.iter()).or_else(|| mean(alike.flat_map(|other| &other.took))).unwrap_or(all)
    }
}

fn mean<'v>(values: impl Iterator<Item = &'v f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::Aim;

    #[test]
    fn an_encode_that_has_not_run_takes_what_its_like_took() {
        let cell = |mode, rate| Cell {
            clip: "clip".to_owned(),
            encoder: "libx264".to_owned(),
            preset: None,
            mode,
            aim: Aim::Rate(rate),
        };
        let cells = [cell(Mode::OnePass, 1), cell(Mode::TwoPass, 1), cell(Mode::OnePass, 2), cell(Mode::TwoPass, 2)];
        let mut eta = Eta::of(cells.iter(), 2);
        assert_eq!((eta.rest(), eta.counts()), (None, (0, 8)));
        eta.took(&cells[0], 1.0);
        eta.measured(0.5);
        eta.took(&cells[1], 3.0);
        eta.measured(0.5);
        // One repetition each, two of each of the others, and two measurements.
        assert_eq!((eta.rest(), eta.counts()), (Some(1.0 + 3.0 + 2.0 + 6.0 + 1.0), (2, 8)));
        eta.skip(&cells[3], 2, true);
        assert_eq!(eta.rest(), Some(1.0 + 3.0 + 2.0 + 0.5));
    }
}
