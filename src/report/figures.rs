//! Numbers as people read them.
//!
//! What lives here: bytes, durations, rates and the time left, and the meter that finds a rate from
//! counts. What does not: where they stand on the screen (render, terminal).

use std::time::Duration;

/// Bytes in binary units with at most one decimal: `512 B`, `1.2 GiB`, `123 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.iter().skip(1) {
        // 1023.7 would be shown as 1024: that is 1.0 of the next unit.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 99.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// Bytes a second: `35.1 MiB/s`.
pub fn human_rate(bytes_per_second: f64) -> String {
    format!("{}/s", human_bytes(bytes_per_second.max(0.0) as u64))
}

/// A duration in its two largest units: `0.4 s`, `12 s`, `2 min 5 s`, `1 h 4 min`, `3 d 2 h`.
pub fn human_duration(duration: Duration) -> String {
    let tenths = (duration.as_secs_f64() * 10.0).round();
    if tenths < 100.0 {
        return format!("{:.1} s", tenths / 10.0);
    }
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_millis() >= 500));
    let two = |big: u64, big_word: &str, small: u64, small_word: &str| match small {
        0 => format!("{big} {big_word}"),
        _ => format!("{big} {big_word} {small} {small_word}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// [`human_duration`] of a number of seconds; what is no duration is shown as `0.0 s`.
pub fn human_seconds(seconds: f64) -> String {
    human_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A whole number with its thousands apart: `12,345`.
pub fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The time that is left at this rate; none while it cannot be told.
pub fn eta(done: u64, total: Option<u64>, per_second: f64) -> Option<Duration> {
    let left = total?.saturating_sub(done);
    if per_second <= 0.0 || !per_second.is_finite() {
        return None;
    }
    Duration::try_from_secs_f64(left as f64 / per_second).ok()
}

/// Finds the rate of a count that moves, smoothed over about five seconds.
#[derive(Debug, Clone)]
pub struct Meter {
    first: (jiff::Timestamp, u64),
    last: (jiff::Timestamp, u64),
    rate: Option<f64>,
}

impl Meter {
    /// A count that stands at `done`.
    pub fn new(at: jiff::Timestamp, done: u64) -> Self {
        Self { first: (at, done), last: (at, done), rate: None }
    }

    /// The count stands at `done` now. A count that went back (a second attempt) begins anew.
    pub fn feed(&mut self, at: jiff::Timestamp, done: u64) {
        if done < self.last.1 {
            *self = Self::new(at, done);
            return;
        }
        let seconds = at.duration_since(self.last.0).as_secs_f64();
        if seconds < 0.05 {
            return;
        }
        let now = (done - self.last.1) as f64 / seconds;
        // A long pause outweighs what was measured before it, a short step hardly moves it.
        let weight = 1.0 - (-seconds / 5.0).exp();
        self.rate = Some(self.rate.map_or(now, |rate| rate + (now - rate) * weight));
        self.last = (at, done);
    }

    /// Units a second, once two counts were seen.
    pub fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// Mean rate since the first count.
    pub fn mean(&self) -> Option<f64> {
        let seconds = self.last.0.duration_since(self.first.0).as_secs_f64();
        (seconds > 0.0).then(|| (self.last.1 - self.first.1) as f64 / seconds)
    }

    /// Time since the first count.
    pub fn elapsed(&self, now: jiff::Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.first.0)).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_never_show_a_thousand_and_more() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (132_070_244_352, "123 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn durations_in_two_units() {
        for (seconds, text) in [
            (0.0, "0.0 s"),
            (0.44, "0.4 s"),
            (9.96, "10 s"),
            (59.6, "1 min"),
            (125.0, "2 min 5 s"),
            (3840.0, "1 h 4 min"),
            (266_400.0, "3 d 2 h"),
            (f64::NAN, "0.0 s"),
            (-1.0, "0.0 s"),
        ] {
            assert_eq!(human_seconds(seconds), text, "{seconds}");
        }
        assert_eq!(human_count(1_234_567), "1,234,567");
        assert_eq!(human_count(123), "123");
    }

    #[test]
    fn the_time_left_follows_from_the_rate() {
        let start: jiff::Timestamp = "2026-11-23T04:15:00Z".parse().unwrap();
        let mut meter = Meter::new(start, 0);
        for second in 1..=30 {
            meter.feed(start + jiff::SignedDuration::from_secs(second), u64::try_from(second).unwrap() * 1000);
        }
        assert!((meter.rate().unwrap() - 1000.0).abs() < 1.0);
        assert_eq!(eta(30_000, Some(60_000), 1000.0), Some(Duration::from_secs(30)));
        assert_eq!(eta(30_000, None, 1000.0), None);
        assert_eq!(eta(0, Some(1), 0.0), None);
        meter.feed(start + jiff::SignedDuration::from_secs(31), 5);
        assert_eq!(meter.rate(), None);
    }
}
