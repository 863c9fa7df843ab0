//! How caches at servers fare, on record beside what they have said.
//!
//! Each process remembers for itself which servers rest. What it finds is put on record as well, so that whoever looks is
//! told, and so that a server that rests is asked at once when the record of it is gone: that is how one is reset.

use std::collections::BTreeMap;

use rusqlite::{Row, params};

use super::{LookupCache, now};
use crate::health::HealthRecord;

/// What is known of a cache. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Its place among others, as it said itself.
    pub priority: Option<i64>,
    /// Whether it said that it may be asked about many paths at once.
    pub want_mass_query: Option<bool>,
    /// Paths that are remembered as being there.
    pub present: u64,
    /// Paths that are remembered as not being there.
    pub absent: u64,
    /// When it gave an answer.
    pub answered: Option<i64>,
    /// When it failed.
    pub failed: Option<i64>,
    /// What happened when it failed.
    pub failure: Option<String>,
    /// Until when it is not asked.
    pub rests_until: Option<i64>,
    /// How long its answers take, in milliseconds.
    pub latency: Option<u64>,
}

impl CacheStatus {
    /// For how many seconds it is not asked from now on.
    #[must_use]
    pub fn rest(&self) -> Option<u64> {
        let rest = self.rests_until?.saturating_sub(now());
        u64::try_from(rest).ok().filter(|rest| *rest > 0)
    }
}

impl LookupCache {
    /// What is known of all caches, by their URLs.
    pub async fn status(&self) -> BTreeMap<String, CacheStatus> {
        let found = self.with(|connection, _| {
            let mut statement = connection.prepare(
                "select url, priority, wantMassQuery,
                     (select count(*) from NARs N where N.cache = C.id and present),
                     (select count(*) from NARs N where N.cache = C.id and not present),
                     answered, failed, failure, restsUntil, latency
                 from (select url from BinaryCaches union select url from Servers)
                 left join BinaryCaches C using (url) left join Servers using (url)",
            )?;
            statement.query_map([], status)?.collect::<rusqlite::Result<BTreeMap<_, _>>>()
        });
        found.await.unwrap_or_default()
    }

    /// Has servers asked at once that rest, in every process that shares the record.
    pub async fn reset_health(&self, urls: Vec<String>) {
        self.with(move |connection, _| {
            let mut statement = connection.prepare(
                "update Servers set restsUntil = null, failure = null, failed = null where url = ?",
            )?;
            urls.iter().try_for_each(|url| statement.execute([url]).map(drop))
        })
        .await;
    }

    /// Puts on record how a server fares; `false` if that can't be.
    pub(crate) async fn set_health(&self, url: &str, record: HealthRecord) -> bool {
        let url = url.to_owned();
        let set = self.with(move |connection, _| {
            let now = now();
            let milliseconds = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            connection
                .prepare_cached(
                    "insert into Servers (url, answered, failed, failure, restsUntil, latency)
                     values (?, ?, ?, ?, ?, ?) on conflict (url) do update set
                     answered = coalesce(excluded.answered, answered), failed = coalesce(excluded.failed, failed),
                     failure = coalesce(excluded.failure, failure), restsUntil = excluded.restsUntil,
                     latency = coalesce(excluded.latency, latency)",
                )?
                .execute(params![
                    url,
                    record.answered.then_some(now),
                    record.failure.is_some().then_some(now),
                    record.failure,
                    record.rest.map(|rest| now.saturating_add(milliseconds(rest) / 1000)),
                    record.latency.map(milliseconds),
                ])
        });
        set.await.is_some()
    }

    /// Whether the record says that a server rests; nothing if there is none to be had.
    pub(crate) async fn rests(&self, url: &str) -> Option<bool> {
        let url = url.to_owned();
        self.with(move |connection, _| {
            connection
                .prepare_cached("select exists (select 1 from Servers where url = ? and restsUntil > ?)")?
                .query_row(params![url, now()], |row| row.get(0))
        })
        .await
    }
}

fn status(row: &Row<'_>) -> rusqlite::Result<(String, CacheStatus)> {
    let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let status = CacheStatus {
        priority: row.get(1)?,
        want_mass_query: row.get(2)?,
        present: count(3)?,
        absent: count(4)?,
        answered: row.get(5)?,
        failed: row.get(6)?,
        failure: row.get(7)?,
        rests_until: row.get(8)?,
        latency: row.get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
    };
    Ok((row.get(0)?, status))
}
