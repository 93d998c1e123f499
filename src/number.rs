//! Numbers and spans as people read them.

use crate::time::Duration;

/// A span in seconds, for programs.
pub(crate) fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// A rate in bytes per second, as `41.2 Mbit/s`.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    let bits = bytes_per_second * 8.0;
    scaled(bits, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s"])
}

/// A number of bytes, as `1.20 GB`.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64, &["B", "kB", "MB", "GB", "TB", "PB"])
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", units[unit])
}

/// A span, as `3 min 5 s`.
pub(crate) fn span(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

/// A span, as `104 ms`; a dash if there is none.
pub(crate) fn millis(span: Option<Duration>) -> String {
    span.map_or("-".into(), |span| match span.as_millis_f64() {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    })
}

/// A share from 0 to 1, as `1.5 %`; a dash if there is none.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| match share * 100.0 {
        p if p < 9.95 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    })
}

/// So many things: `1 session`, `2 sessions`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SEC;

    #[test]
    fn numbers_read_well() {
        assert_eq!(rate(5_150_000.0), "41.2 Mbit/s");
        assert_eq!(rate(12.0), "96 bit/s");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_200_000_000), "1.20 GB");
        assert_eq!(bytes(999_999), "1.00 MB");
        assert_eq!(span(59 * SEC), "59 s");
        assert_eq!(span(3700 * SEC), "1 h 1 min");
        assert_eq!(millis(Some(Duration::from_micros(1_250))), "1.2 ms");
        assert_eq!(millis(Some(Duration::from_micros(104_400))), "104 ms");
        assert_eq!(percent(Some(0.123)), "12 %");
        assert_eq!(percent(None), "-");
    }
}
