//! Dates in templates.
//!
//! What lives here: `to_datetime`, `strftime`, `now` and what is done with their results. What does not: the time on a
//! host (the module `setup` asks there).

use std::fmt;
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, Value};

use super::python::wrong;

/// A date with a time of day, in no zone (`datetime.datetime`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Date(pub(super) DateTime);

/// The time between two dates, in microseconds (`datetime.timedelta`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span(pub(super) i128);

const DAY: i128 = 86_400_000_000;

fn bad(error: impl fmt::Display) -> Error {
    wrong(format!("this date cannot be used: {error}"))
}

impl Date {
    pub(super) fn value(self) -> Value {
        Value::from_object(self)
    }

    fn zoned(self) -> Result<Zoned, Error> {
        self.0.to_zoned(TimeZone::UTC).map_err(bad)
    }

    pub(super) fn method(&self, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
        let form = args.first().and_then(Value::as_str);
        Some(match (method, form) {
            ("strftime", Some(form)) => self.zoned().and_then(|zoned| print(form, &zoned)).map(Value::from),
            ("isoformat", _) => Ok(Value::from(self.0.to_string())),
            ("timestamp", _) => self.zoned().map(|zoned| Value::from(zoned.timestamp().as_microsecond() as f64 / 1e6)),
            ("date", _) => Ok(Date(self.0.date().to_datetime(jiff::civil::Time::midnight())).value()),
            ("weekday", _) => Ok(Value::from(self.0.weekday().to_monday_zero_offset())),
            ("isoweekday", _) => Ok(Value::from(self.0.weekday().to_monday_one_offset())),
            _ => return None,
        })
    }
}

impl Object for Date {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "year" => Value::from(self.0.year()),
            "month" => Value::from(self.0.month()),
            "day" => Value::from(self.0.day()),
            "hour" => Value::from(self.0.hour()),
            "minute" => Value::from(self.0.minute()),
            "second" => Value::from(self.0.second()),
            "microsecond" => Value::from(self.0.subsec_nanosecond() / 1000),
            _ => return None,
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.to_string().replace('T', " "))
    }
}

impl Span {
    pub(super) fn method(&self, method: &str) -> Option<Value> {
        (method == "total_seconds").then(|| Value::from(self.0 as f64 / 1e6))
    }
}

impl Object for Span {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let rest = self.0.rem_euclid(DAY);
        Some(match key.as_str()? {
            "days" => Value::from(self.0.div_euclid(DAY)),
            "seconds" => Value::from(rest / 1_000_000),
            "microseconds" => Value::from(rest % 1_000_000),
            _ => return None,
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let seconds = rest / 1_000_000;
        if days != 0 {
            write!(f, "{days} day{}, ", if days.abs() == 1 { "" } else { "s" })?;
        }
        write!(f, "{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        if rest % 1_000_000 != 0 {
            write!(f, ".{:06}", rest % 1_000_000)?;
        }
        Ok(())
    }
}

/// `one - other`, where both are dates or spans.
pub(super) fn minus(one: &Value, other: &Value) -> Option<Result<Value, Error>> {
    if let (Some(one), Some(other)) = (one.downcast_object_ref::<Date>(), other.downcast_object_ref::<Date>()) {
        let micros = |date: &Date| date.zoned().map(|zoned| i128::from(zoned.timestamp().as_microsecond()));
        return Some(micros(one).and_then(|one| Ok(Value::from_object(Span(one - micros(other)?)))));
    }
    let date = one.downcast_object_ref::<Date>()?;
    let span = other.downcast_object_ref::<Span>()?;
    let micros = i64::try_from(span.0).map_err(bad);
    Some(micros.and_then(|micros| {
        let span = jiff::SignedDuration::from_micros(micros);
        date.0.checked_sub(span).map(|date| Date(date).value()).map_err(bad)
    }))
}

fn print(form: &str, zoned: &Zoned) -> Result<String, Error> {
    strtime::format(form, zoned).map_err(|error| wrong(format!("strftime: {error}")))
}

/// `text` read by `form`.
pub(super) fn read(text: &str, form: &str) -> Result<Value, Error> {
    let told = |error| wrong(format!("time data {text:?} does not match format {form:?}: {error}"));
    let broken = strtime::parse(form, text).map_err(told)?;
    let date = broken
        .to_datetime()
        .or_else(|_| broken.to_date().map(|date| date.to_datetime(jiff::civil::Time::midnight())))
        .map_err(told)?;
    Ok(Date(date).value())
}

/// `form` filled from so many seconds since 1970, or from now.
pub(super) fn strftime(form: &str, seconds: Option<f64>, utc: bool) -> Result<String, Error> {
    let stamp = match seconds {
        Some(seconds) => Timestamp::from_microsecond((seconds * 1e6) as i64).map_err(bad)?,
        None => Timestamp::now(),
    };
    print(form, &stamp.to_zoned(if utc { TimeZone::UTC } else { TimeZone::system() }))
}

/// Now: a date, or a text where a form is given.
pub(super) fn now(utc: bool, form: Option<&str>) -> Result<Value, Error> {
    let zoned = Timestamp::now().to_zoned(if utc { TimeZone::UTC } else { TimeZone::system() });
    match form {
        Some(form) => print(form, &zoned).map(Value::from),
        None => Ok(Date(zoned.datetime()).value()),
    }
}
