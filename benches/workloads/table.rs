//! A table of measured figures and their targets.

use std::fmt;

/// A figure and its limits: the highest value that is acceptable, and the one aimed at.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub workload: &'static str,
    pub unit: &'static str,
    /// `None` if the figure is only reported.
    pub must: Option<f64>,
    pub aim: Option<f64>,
}

/// The median, the lowest and the highest figure of the rounds.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        Self { median: rounds[rounds.len() / 2], min: rounds[0], max: rounds[rounds.len() - 1] }
    }
}

/// The lines of the table.
#[derive(Default)]
pub struct Table {
    lines: Vec<String>,
}

impl Table {
    /// Adds a line and prints it at once. `detail` shows the numbers behind the figure.
    pub fn add(&mut self, target: Target, measured: Spread, detail: &str) {
        let Target { name, workload, unit, must, aim } = target;
        let met = match (must, aim) {
            (Some(must), _) if measured.median > must => "MISSED",
            (_, Some(aim)) if measured.median <= aim => "yes, and the aim",
            (Some(_), _) => "yes",
            (None, _) => "-",
        };
        let limit = |limit: Option<f64>| limit.map_or_else(|| "-".into(), |limit| format!("{limit} {unit}"));
        let line = format!(
            "| {name} | {workload} | {:.3} {unit} ({:.3}-{:.3}) | {} | {} | {met} | {detail} |",
            measured.median,
            measured.min,
            measured.max,
            limit(must),
            limit(aim)
        );
        eprintln!("{line}");
        self.lines.push(line);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| target | workload | measured: median (min-max) | must | aim | met? | from |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
