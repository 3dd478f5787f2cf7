//! A straight line through measured times, and projections from it.

/// The sizes that a run is projected to, GB.
pub(crate) const PROJECTED: (f64, f64) = (100.0, 50.0);

/// `seconds = fixed + per_gb * gigabytes`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    pub(crate) fixed: f64,
    pub(crate) per_gb: f64,
    /// The largest deviation of a point from the line, as a share of the point's time.
    pub(crate) worst: f64,
}

impl Line {
    /// The line of least squares through points of gigabytes and seconds. `None` for fewer than two
    /// different sizes.
    pub(crate) fn through(points: &[(f64, f64)]) -> Option<Line> {
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let spread = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
        if points.len() < 2 || spread == 0.0 {
            return None;
        }
        let per_gb = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        let line = Line { fixed: mean_y - per_gb * mean_x, per_gb, worst: 0.0 };
        let worst = points.iter().map(|(x, y)| (line.at(*x) - y).abs() / y).fold(0.0, f64::max);
        Some(Line { worst, ..line })
    }

    /// Seconds for this size.
    pub(crate) fn at(self, gigabytes: f64) -> f64 {
        self.fixed + self.per_gb * gigabytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_points_on_it() {
        let points = [(3.0, 7.0), (9.0, 19.0), (18.0, 37.0)];
        let line = Line::through(&points).unwrap();
        assert!((line.fixed - 1.0).abs() < 1e-9 && (line.per_gb - 2.0).abs() < 1e-9, "{line:?}");
        assert!(line.worst < 1e-9 && (line.at(150.0) - 301.0).abs() < 1e-9);
    }

    #[test]
    fn a_deviation_is_reported() {
        let line = Line::through(&[(1.0, 1.0), (2.0, 2.0), (3.0, 6.0)]).unwrap();
        assert!((line.per_gb - 2.5).abs() < 1e-9 && (line.worst - 0.5).abs() < 1e-9, "{line:?}");
    }

    #[test]
    fn one_size_has_no_line() {
        assert_eq!(Line::through(&[(1.0, 1.0)]), None);
        assert_eq!(Line::through(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Line::through(&[]), None);
    }
}
