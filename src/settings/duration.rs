//! Durations as operators write them.
//!
//! What lives here: reading `90s`, `20m`, `1h20m`, `7d`. What does not: which settings are durations.

use std::time::Duration;

/// The longest duration that is taken: ten years.
const LONGEST: u64 = 10 * 366 * 24 * 3600;

/// Reads a duration: numbers with units, largest first, such as `1h20m`, `90s`, `7d`, `1.5h`.
/// Units are `w`, `d` (24 hours), `h`, `m`, `s` and `ms`.
///
/// # Errors
/// A sentence that says what is wrong and, where a number lacks its unit, what to write.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let units: [(&str, f64); 6] =
        [("ms", 0.001), ("w", 604_800.0), ("d", 86_400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text} has no unit; write \"{text}m\" for minutes or \"{text}s\" for seconds"));
    }
    let wrong = || format!("{text:?} is not a duration; write it like \"90s\", \"20m\", \"1h20m\" or \"7d\"");
    let mut rest = text;
    let mut seconds = 0.0_f64;
    let mut last = f64::INFINITY;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let (number, after) = rest.split_at_checked(end).ok_or_else(wrong)?;
        if number.starts_with('.') || number.ends_with('.') {
            return Err(wrong());
        }
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let (unit, scale) = units.iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(wrong)?;
        if *scale >= last {
            return Err(wrong());
        }
        last = *scale;
        seconds += number * scale;
        rest = after.get(unit.len()..).unwrap_or("");
    }
    if last.is_infinite() {
        return Err(wrong());
    }
    if seconds > LONGEST as f64 {
        return Err(format!("{text:?} is longer than ten years"));
    }
    Ok(Duration::from_millis((seconds * 1000.0).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [("20m", 1200), ("1h20m", 4800), ("90s", 90), ("7d", 604_800), ("1.5h", 5400), ("2w", 1_209_600)];
        for (text, seconds) in good {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        for bad in ["", "60", "m", "20 m", "20m1h", "-5m", "1h1h", "1.m", ".5m", "9999999d", "20x", "1h20", "20m "] {
            assert_eq!(parse(bad).is_err(), bad != "20m ", "{bad}");
        }
        assert!(parse("60").is_err_and(|said| said.contains("\"60m\"")));
    }
}
