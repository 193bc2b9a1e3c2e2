//! When a schedule is due: a cron expression in a time zone. It knows no jobs and no clock.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
// The cron library speaks an older jiff than the rest.
use jiff_for_cron::tz::TimeZone;
use jiff_for_cron::{Timestamp as CronTimestamp, Zoned};

/// Longer expressions than this are nobody's schedule.
const MAX_BYTES: usize = 200;
const MAX_SHOWN: usize = 60;

/// A timing that is none, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTiming(String);

/// A timing that was read.
#[derive(Clone, Debug)]
pub(super) struct Times {
    cron: Cron,
    zone: TimeZone,
}

impl Times {
    /// Reads an expression and the name of a time zone, and finds that it is due some time after `now`.
    pub(super) fn read(cron: &str, time_zone: &str, now: Timestamp) -> Result<Times, InvalidTiming> {
        let wrong = |reason: &dyn std::fmt::Display| {
            let cron = shown(cron);
            InvalidTiming(format!(
                "cron is {cron:?}: expected five or six fields such as \"0 3 * * *\" ({reason})"
            ))
        };
        if cron.len() > MAX_BYTES {
            return Err(wrong(&"it is too long"));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron_read = parser.parse(cron).map_err(|error| wrong(&error))?;
        let zone = TimeZone::get(time_zone).map_err(|_| {
            let zone = shown(time_zone);
            InvalidTiming(format!("time_zone is {zone:?}: expected a name such as Europe/Lisbon or UTC"))
        })?;
        let times = Times { cron: cron_read, zone };
        if times.next_after(now).is_none() {
            return Err(wrong(&"it is never due"));
        }
        Ok(times)
    }

    /// The first time after this one at which it is due. None: never again.
    pub(super) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&self.zoned(time)?, false).ok()?;
        Timestamp::from_second(next.timestamp().as_second()).ok()
    }

    /// The last time until this one, this one included, at which it was due. None: never before.
    pub(super) fn last_until(&self, time: Timestamp) -> Option<Timestamp> {
        let last = self.cron.find_previous_occurrence(&self.zoned(time)?, true).ok()?;
        Timestamp::from_second(last.timestamp().as_second()).ok()
    }

    /// To the second: cron knows nothing shorter.
    fn zoned(&self, time: Timestamp) -> Option<Zoned> {
        Some(CronTimestamp::from_second(time.as_second()).ok()?.to_zoned(self.zone.clone()))
    }
}

/// The beginning of a text that may be hostile.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(cron: &str, zone: &str) -> Times {
        Times::read(cron, zone, at("2026-01-01T00:00:00Z")).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_is_due_at_the_time_of_its_zone() {
        let nightly = times("0 3 * * *", "Europe/Lisbon");
        assert_eq!(nightly.next_after(at("2026-01-10T02:59:59Z")), Some(at("2026-01-10T03:00:00Z")));
        assert_eq!(nightly.next_after(at("2026-01-10T03:00:00Z")), Some(at("2026-01-11T03:00:00Z")));
        // In summer three o'clock is an hour earlier.
        assert_eq!(nightly.next_after(at("2026-07-10T00:00:00Z")), Some(at("2026-07-10T02:00:00Z")));
        assert_eq!(nightly.last_until(at("2026-07-10T02:00:00Z")), Some(at("2026-07-10T02:00:00Z")));
        assert_eq!(nightly.last_until(at("2026-07-10T01:59:59Z")), Some(at("2026-07-09T02:00:00Z")));
        let seconds = times("*/10 * * * * *", "UTC");
        assert_eq!(seconds.next_after(at("2026-01-10T00:00:09.999Z")), Some(at("2026-01-10T00:00:10Z")));
    }

    #[test]
    fn a_change_of_the_clock_makes_nothing_due_twice() {
        // On 25 October 2026 the hour from one to two comes twice in Lisbon.
        let daily = times("30 1 * * *", "Europe/Lisbon");
        let first = daily.next_after(at("2026-10-24T12:00:00Z")).unwrap();
        let second = daily.next_after(first).unwrap();
        assert!(second >= at("2026-10-26T00:00:00Z"), "{first} {second}");
        // On 29 March 2026 the hour from one to two does not come: the next day it does.
        let next = daily.next_after(at("2026-03-28T12:00:00Z")).unwrap();
        let after = daily.next_after(next).unwrap();
        assert!(next < after && after <= at("2026-03-30T00:30:00Z"), "{next} {after}");
    }

    /// All times from one to another, one after the other, and the last times at every quarter of an hour between.
    fn course(times: &Times, from: &str, until: &str) -> (Vec<String>, Vec<String>) {
        let (from, until) = (at(from), at(until));
        let due: Vec<Timestamp> =
            std::iter::successors(times.next_after(from), |time| times.next_after(*time))
                .take_while(|time| *time <= until)
                .collect();
        let steps = (from.as_second()..=until.as_second()).step_by(900);
        let mut seen: Vec<Timestamp> = steps
            .filter_map(|second| times.last_until(Timestamp::from_second(second).unwrap()))
            .filter(|time| *time > from)
            .collect();
        seen.dedup();
        let shown = |times: &[Timestamp]| times.iter().map(ToString::to_string).collect();
        (shown(&due), shown(&seen))
    }

    #[test]
    fn last_times_are_those_that_came_next_where_clocks_change() {
        // On 29 March 2026 the hour from one to two does not come in Lisbon, on 25 October it comes twice.
        let (spring, autumn) = (
            ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
            ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
        );
        for cron in ["30 1 * * *", "*/30 1 * * *", "0 * * * *", "*/15 * * * *", "0 3 * * *", "0 0,1,2 * * *"]
        {
            for (from, until) in [spring, autumn] {
                let (due, seen) = course(&times(cron, "Europe/Lisbon"), from, until);
                println!("{cron} from {from}: {due:?}");
                assert_eq!(due, seen, "{cron} from {from}");
            }
        }
    }

    #[test]
    fn what_is_no_timing_is_said() {
        let wrong = |cron: &str, zone: &str| {
            Times::read(cron, zone, at("2026-01-01T00:00:00Z")).unwrap_err().to_string()
        };
        for cron in ["", "* * *", "61 * * * *", "x y z a b", "0 0 30 2 *", &"1,".repeat(200)] {
            let sentence = wrong(cron, "UTC");
            assert!(sentence.starts_with("cron is "), "{sentence}");
        }
        assert_eq!(
            wrong("0 3 * * *", "Europe/Atlantis"),
            "time_zone is \"Europe/Atlantis\": expected a name such as Europe/Lisbon or UTC"
        );
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(cron in "[0-9*/,LW#A-Za-z? -]{0,40}", zone in ".{0,20}") {
            let _ = Times::read(&cron, &zone, at("2026-01-01T00:00:00Z"));
        }

        #[test]
        fn times_go_forward(minute in 0..60, hour in 0..24, start in 1_700_000_000_i64..1_900_000_000) {
            let times = times(&format!("{minute} {hour} * * *"), "America/New_York");
            let start = Timestamp::from_second(start).unwrap();
            let next = times.next_after(start).unwrap();
            prop_assert!(next > start);
            prop_assert_eq!(times.last_until(next), Some(next));
            prop_assert!(times.last_until(start).unwrap() <= start);
        }
    }
}
