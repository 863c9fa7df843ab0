//! A daemon's status as lines: a pure function of the status.
//!
//! Names and log lines come from outside, and the socket may be anybody's: whatever is shown is made safe once more.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use kiln_console::{Style, derivation_name, duration, fit, mebibytes, width};
use kiln_daemon::status::{
    ConnectionStatus, ProgressStatus, QueuedStatus, RequestStatus, SlotStatus, Status, WorkKind, WorkStatus,
};
use kiln_events::{Colours, safe_line};

/// Columns of a user's name.
const USER: usize = 10;

/// Columns of the name of what is being done.
const NAME: usize = 32;

/// What is listed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Age,
    Name,
    User,
}

impl Order {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Age => Self::Name,
            Self::Name => Self::User,
            Self::User => Self::Age,
        }
    }

    pub(super) fn previous(self) -> Self {
        self.next().next()
    }

    fn word(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Name => "name",
            Self::User => "user",
        }
    }
}

/// What is drawn.
pub(super) struct View<'a> {
    pub(super) status: &'a Status,
    pub(super) order: Order,
    pub(super) colours: bool,
}

impl View<'_> {
    /// All of it.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = self.summary();
        self.section(&mut lines, "RUNNING", "nothing runs", self.work());
        self.section(&mut lines, "CLIENTS", "nobody is connected", self.clients());
        let queue = self.queue();
        if !queue.is_empty() {
            self.section(&mut lines, "WAITING FOR A SLOT", "", queue);
        }
        lines
    }

    /// Why there is nothing newer.
    pub(super) fn trouble(&self, trouble: &str) -> String {
        Style::Red.paint(self.colours, &safe(trouble))
    }

    fn summary(&self) -> Vec<String> {
        let status = self.status;
        let up = duration(Duration::from_secs(status.now.saturating_sub(status.started)));
        let head = format!(
            "kiln {} serves {}, process {}, for {up}; by {}",
            safe(&status.version),
            safe(&status.store_dir),
            status.pid,
            self.order.word()
        );
        let busy = status.connections.iter().filter(|connection| connection.request.is_some()).count();
        let mut lines = vec![
            Style::Bold.paint(self.colours, &head),
            format!(
                "builds {}   substitutions {}   clients {} ({busy} busy)",
                slots(status.build_slots),
                slots(status.substitution_slots),
                status.connections.len()
            ),
        ];
        for server in status.substituters.iter().filter(|server| !server.is_well) {
            let why = server.last_failure.as_deref().unwrap_or("it has failed");
            let line = format!("not asked for now: {} ({})", safe(&server.url), safe(why));
            lines.push(Style::Red.paint(self.colours, &line));
        }
        lines
    }

    fn section(&self, lines: &mut Vec<String>, title: &str, if_empty: &str, section: Vec<String>) {
        lines.push(String::new());
        lines.push(Style::Bold.paint(self.colours, title));
        if section.is_empty() {
            lines.push(format!("  {if_empty}"));
        }
        lines.extend(section);
    }

    fn work(&self) -> Vec<String> {
        let users = self.users_of_connections();
        let mut work: Vec<(String, &WorkStatus)> =
            self.status.work.iter().map(|work| (users_of(work, &users), work)).collect();
        work.sort_by(|(a_user, a), (b_user, b)| {
            let by_age = || (a.since, a.id).cmp(&(b.since, b.id));
            self.compare((a_user, derivation_name(&a.path)), (b_user, derivation_name(&b.path)))
                .then_with(by_age)
        });
        work.into_iter().map(|(users, work)| self.work_line(&users, work)).collect()
    }

    fn work_line(&self, users: &str, work: &WorkStatus) -> String {
        let kind = match work.kind {
            WorkKind::Build => "build",
            WorkKind::Substitution => "fetch",
            WorkKind::PostBuildHook => "hook",
        };
        let mut about: Vec<String> = Vec::new();
        about.extend(
            work.place
                .as_deref()
                .filter(|place| !place.is_empty())
                .map(|place| format!("at {}", safe(place))),
        );
        about.extend(work.phase.as_deref().map(|phase| format!("[{}]", safe(phase))));
        about.extend(work.bytes.map(|(done, all)| format!("{}/{} MiB", mebibytes(done), mebibytes(all))));
        about.extend(work.last_line.as_deref().map(safe));
        let name = padded(&safe(derivation_name(&work.path)), NAME);
        let name = Style::Blue.paint(self.colours, &name);
        let line = format!(
            "  {:>7}  {}  {kind}  {name}  {}",
            self.age(work.since),
            padded(users, USER),
            about.join(" ")
        );
        line.trim_end().to_owned()
    }

    fn clients(&self) -> Vec<String> {
        let mut clients: Vec<&ConnectionStatus> = self.status.connections.iter().collect();
        clients.sort_by(|a, b| {
            let by_age = || (a.since, a.id).cmp(&(b.since, b.id));
            let name = |client: &ConnectionStatus| {
                client.request.as_ref().map_or(String::new(), |request| request.operation.clone())
            };
            self.compare((&a.user, &name(a)), (&b.user, &name(b))).then_with(by_age)
        });
        let mut lines = Vec::new();
        for client in clients {
            let pid = client.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
            let (age, what) = match &client.request {
                Some(request) => (self.age(request.since), asked(request)),
                None => (self.age(client.since), Style::Dim.paint(self.colours, "idle")),
            };
            lines.push(format!("  {age:>7}  {}  pid {pid}  {what}", padded(&safe(&client.user), USER)));
            let waits = client.request.iter().flat_map(|request| &request.waits_for);
            lines.extend(waits.map(|wait| format!("           {}", safe(wait))));
        }
        lines
    }

    fn queue(&self) -> Vec<String> {
        let users: BTreeMap<u64, &str> =
            self.status.connections.iter().map(|client| (client.uid, client.user.as_str())).collect();
        let user = |uid: u64| users.get(&uid).map_or_else(|| uid.to_string(), |user| safe(user));
        let mut queue: Vec<(String, &QueuedStatus)> =
            self.status.queue.iter().map(|queued| (user(queued.uid), queued)).collect();
        queue.sort_by(|(a_user, a), (b_user, b)| {
            self.compare((a_user, derivation_name(&a.path)), (b_user, derivation_name(&b.path)))
                .then_with(|| a.since.cmp(&b.since))
        });
        let mut lines: Vec<String> = queue
            .into_iter()
            .map(|(user, queued)| {
                let kind = if queued.is_build { "build" } else { "fetch" };
                let name = safe(derivation_name(&queued.path));
                format!("  {:>7}  {}  {kind}  {name}", self.age(queued.since), padded(&user, USER))
            })
            .collect();
        let waiting = self.status.build_slots.waiting.saturating_add(self.status.substitution_slots.waiting);
        let untold = waiting.saturating_sub(lines.len());
        if untold > 0 {
            lines.push(format!("  and {untold} more"));
        }
        lines
    }

    fn compare(&self, a: (&str, &str), b: (&str, &str)) -> Ordering {
        match self.order {
            Order::Age => Ordering::Equal,
            Order::User => a.cmp(&b),
            Order::Name => a.1.cmp(b.1),
        }
    }

    fn users_of_connections(&self) -> BTreeMap<u64, &str> {
        self.status.connections.iter().map(|client| (client.id, client.user.as_str())).collect()
    }

    fn age(&self, since: u64) -> String {
        duration(Duration::from_secs(self.status.now.saturating_sub(since)))
    }
}

/// Those who want something, each once.
fn users_of(work: &WorkStatus, users: &BTreeMap<u64, &str>) -> String {
    let mut names: Vec<&str> = work.connections.iter().filter_map(|id| users.get(id).copied()).collect();
    names.sort_unstable();
    names.dedup();
    safe(&names.join(","))
}

fn asked(request: &RequestStatus) -> String {
    let mut parts = vec![safe(&request.operation)];
    for (what, progress) in [("built", request.builds), ("fetched", request.substitutions)] {
        let ProgressStatus { done, expected, failed, .. } = progress;
        if expected > 0 || failed > 0 {
            parts.push(format!("{done}/{expected} {what}"));
        }
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
    }
    parts.join(", ")
}

fn slots(slots: SlotStatus) -> String {
    let SlotStatus { used, total, waiting } = slots;
    let waiting = if waiting > 0 { format!(", {waiting} waiting") } else { String::new() };
    format!("{used}/{total}{waiting}")
}

fn safe(text: &str) -> String {
    safe_line(text.as_bytes(), Colours::Strip)
}

/// A text of just so many columns.
fn padded(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    let blanks = " ".repeat(columns.saturating_sub(width(&text)));
    text + &blanks
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp";

    fn client(id: u64, user: &str, request: Option<RequestStatus>) -> ConnectionStatus {
        ConnectionStatus {
            id,
            user: user.into(),
            uid: id + 1000,
            pid: Some(7),
            since: 10,
            request,
            ..Default::default()
        }
    }

    fn work(id: u64, name: &str, since: u64, connections: &[u64]) -> WorkStatus {
        WorkStatus {
            id,
            kind: WorkKind::Build,
            path: format!("{STORE}-{name}.drv"),
            place: None,
            since,
            phase: Some("buildPhase".into()),
            last_line: Some("compiling".into()),
            bytes: None,
            connections: connections.to_vec(),
        }
    }

    fn status() -> Status {
        let request = RequestStatus {
            operation: "BuildPaths".into(),
            since: 70,
            builds: ProgressStatus { done: 3, expected: 9, running: 2, failed: 1 },
            waits_for: vec!["waiting for lock on 'x'".into()],
            ..Default::default()
        };
        Status {
            version: "1".into(),
            pid: 5,
            store_dir: "/nix/store".into(),
            now: 130,
            started: 5,
            build_slots: SlotStatus { used: 2, total: 2, waiting: 3 },
            substitution_slots: SlotStatus { used: 0, total: 16, waiting: 0 },
            connections: vec![client(1, "zoe", Some(request)), client(2, "adam", None)],
            work: vec![work(11, "hello-1", 100, &[1]), work(10, "bash-2", 120, &[1, 2])],
            queue: vec![QueuedStatus {
                path: format!("{}-gcc.drv", &STORE[11..]),
                is_build: true,
                uid: 1001,
                since: 125,
            }],
            substituters: Vec::new(),
        }
    }

    #[test]
    fn everything_is_told() {
        let status = status();
        let expected = "\
kiln 1 serves /nix/store, process 5, for 2m05s; by age
builds 2/2, 3 waiting   substitutions 0/16   clients 2 (1 busy)

RUNNING
      30s  zoe         build  hello-1                           [buildPhase] compiling
      10s  adam,zoe    build  bash-2                            [buildPhase] compiling

CLIENTS
    1m00s  zoe         pid 7  BuildPaths, 3/9 built, 1 failed
           waiting for lock on 'x'
     2m00s  adam        pid 7  idle

WAITING FOR A SLOT
       5s  zoe         build  gcc
  and 2 more
";
        let found = crate::top::snapshot(&status, Order::Age);
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&found), squeezed(expected));
        assert!(found.contains("\n      30s  zoe         build  hello-1  "), "{found}");
    }

    #[test]
    fn the_order_is_as_wanted() {
        let status = status();
        let place = |order: Order, what: &str| crate::top::snapshot(&status, order).find(what).unwrap();
        assert!(place(Order::Age, "hello-1") < place(Order::Age, "bash-2"));
        assert!(place(Order::Name, "bash-2") < place(Order::Name, "hello-1"));
        assert!(place(Order::User, "bash-2") < place(Order::User, "hello-1"));
        assert!(place(Order::User, "idle") < place(Order::User, "BuildPaths"));
        assert_eq!(Order::Age.previous().next(), Order::Age);
    }

    #[test]
    fn l4_nothing_reaches_the_terminal_but_text() {
        let evil = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31mx\r\n".to_owned();
        let mut status = status();
        status.version.clone_from(&evil);
        status.store_dir.clone_from(&evil);
        for client in &mut status.connections {
            client.user.clone_from(&evil);
        }
        for work in &mut status.work {
            work.path.clone_from(&evil);
            (work.phase, work.last_line, work.place) =
                (Some(evil.clone()), Some(evil.clone()), Some(evil.clone()));
        }
        status.queue[0].path.clone_from(&evil);
        let failure = Some(evil.clone());
        status.substituters.push(kiln_daemon::status::SubstituterStatus {
            url: evil,
            last_failure: failure,
            ..Default::default()
        });
        let found = crate::top::snapshot(&status, Order::Name);
        assert!(found.chars().all(|c| c == '\n' || !c.is_control()), "{found:?}");
    }
}
