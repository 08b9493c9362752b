//! One measured figure and how it is printed.

use serde_json::json;

/// A figure.
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// How much it is.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// Most it may be; none for figures that only explain others.
    pub(crate) budget: Option<f64>,
    /// Which part of the measurement says so.
    pub(crate) bench: &'static str,
}

impl Figure {
    /// Prints it as one line.
    pub(crate) fn print(self) {
        let Self { what, value, unit, budget, bench } = self;
        let value = (value * 100.0).round() / 100.0;
        let met = budget.map(|most| value <= most);
        let command = format!("cargo bench --bench measure -- {bench}");
        if std::env::var_os("SERIN_MEASURE_JSON").is_some() {
            let line = json!({"what": what, "value": value, "unit": unit, "budget": budget, "met": met, "command": command});
            println!("{line}");
            return;
        }
        let budget = budget.map_or_else(String::new, |most| format!("<= {most} {unit}"));
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        println!("{what:<64} {:>14} {budget:<16} {verdict:<7} {command}", format!("{value} {unit}"));
    }
}
