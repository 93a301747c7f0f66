//! What the replicas say of themselves, as a table. Pure.

use std::fmt;

use primacy::protocol::status::{LinkStatus, Status, ViewStatus};

use super::status::Answer;

/// The columns' heads.
const HEADS: [&str; 12] = [
    "replica",
    "role",
    "epoch",
    "in sync",
    "notes",
    "items owned",
    "controller",
    "lease ms",
    "links up",
    "opened",
    "frames",
    "rtt ms",
];

/// What stands where there is no value.
const NONE: &str = "-";

/// The answers, one line each, and the views that they tell of; its `Display` ends with a newline.
#[derive(Debug)]
pub(super) struct Table<'a>(pub(super) &'a [Answer]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![HEADS.map(str::to_owned).to_vec()];
        rows.extend(self.0.iter().map(row));
        // What tells why a replica did not answer is as long as it is, and widens no column.
        let full = |column: usize| rows.iter().filter(move |row| row.len() == HEADS.len() || column == 0);
        let widths: Vec<usize> =
            (0..HEADS.len()).map(|column| full(column).map(|row| row[column].len()).max().unwrap_or(0)).collect();
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        self.views().iter().try_for_each(|(view, whose)| writeln!(f, "{}", view_line(view, whose)))
    }
}

impl Table<'_> {
    /// Each view that anybody has, the newest first, and who has it: where not all agree, somebody is behind or cut off.
    fn views(&self) -> Vec<(&ViewStatus, Vec<&str>)> {
        let mut views: Vec<(&ViewStatus, Vec<&str>)> = Vec::new();
        for answer in self.0 {
            let Answer::Status(status) = answer else { continue };
            let Some(view) = &status.view else { continue };
            match views.iter_mut().find(|(known, _)| *known == view) {
                Some((_, whose)) => whose.push(&status.replica),
                None => views.push((view, vec![&status.replica])),
            }
        }
        views.sort_by_key(|(view, _)| std::cmp::Reverse(view.epoch));
        views
    }
}

fn view_line(view: &ViewStatus, whose: &[&str]) -> String {
    let list = |names: &[String]| if names.is_empty() { NONE.to_owned() } else { names.join(", ") };
    let (in_sync, joining) = (list(&view.in_sync), list(&view.joining));
    let (epoch, primary, whose) = (view.epoch, &view.primary, whose.join(", "));
    format!("view {epoch}: primary {primary}; in sync {in_sync}; joining {joining}; known to {whose}")
}

/// A replica's cells: all of them, or its name and why it says nothing.
fn row(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Status(status) => cells(status).to_vec(),
        Answer::None { replica, error } => vec![replica.clone(), error.clone()],
    }
}

fn cells(status: &Status) -> [String; HEADS.len()] {
    let links = &status.links;
    let sum = |count: fn(&LinkStatus) -> u64| links.iter().map(count).sum::<u64>().to_string();
    let slowest = links.iter().filter_map(|link| link.rtt_ms).max_by(f64::total_cmp);
    let or_none = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
    [
        status.replica.clone(),
        status.role.clone(),
        or_none(status.view.as_ref().map(|view| view.epoch.to_string())),
        if status.in_sync { "yes" } else { "no" }.to_owned(),
        status.notes.to_string(),
        status.items_owned.to_string(),
        or_none(status.controller.clone()),
        or_none(status.lease_ms.map(|ms| ms.to_string())),
        format!("{}/{}", links.iter().filter(|link| link.up).count(), links.len()),
        sum(|link| link.opened),
        sum(|link| link.frames),
        or_none(slowest.map(|ms| format!("{ms:.3}"))),
    ]
}

#[cfg(test)]
mod tests {
    use primacy::protocol::ids::Epoch;

    use super::*;

    #[test]
    fn a_line_for_each_replica_whether_it_answers_or_not() {
        let link = |kind: &str, up, rtt_ms| LinkStatus {
            peer: "127.0.0.1:20000".to_owned(),
            kind: kind.to_owned(),
            up,
            opened: 2,
            frames: 40,
            rtt_ms,
        };
        let primary = Status {
            replica: "127.0.0.1:10000".to_owned(),
            mode: "remote-write".to_owned(),
            role: "primary".to_owned(),
            view: Some(ViewStatus {
                epoch: Epoch(12),
                primary: "127.0.0.1:10000".to_owned(),
                in_sync: vec!["127.0.0.1:10000".to_owned()],
                joining: Vec::new(),
            }),
            in_sync: true,
            ready: true,
            lease_ms: Some(371),
            controller: Some("127.0.0.1:10000".to_owned()),
            notes: 100_000,
            items_owned: 100_001,
            links: vec![link("control", true, Some(0.21)), link("data", false, Some(0.084))],
        };
        let starting = Status {
            replica: "127.0.0.1:30000".to_owned(),
            role: "starting".to_owned(),
            view: None,
            in_sync: false,
            ready: false,
            lease_ms: None,
            controller: None,
            notes: 0,
            items_owned: 0,
            links: Vec::new(),
            ..primary.clone()
        };
        let answers = [
            Answer::Status(Box::new(primary)),
            Answer::None { replica: "127.0.0.1:20000".to_owned(), error: "unreachable: Connection refused".to_owned() },
            Answer::Status(Box::new(starting)),
        ];
        let expected = "\
replica          role      epoch  in sync  notes   items owned  controller       lease ms  links up  opened  frames  rtt ms
127.0.0.1:10000  primary   12     yes      100000  100001       127.0.0.1:10000  371       1/2       4       80      0.210
127.0.0.1:20000  unreachable: Connection refused
127.0.0.1:30000  starting  -      no       0       0            -                -         0/0       0       0       -
view 12: primary 127.0.0.1:10000; in sync 127.0.0.1:10000; joining -; known to 127.0.0.1:10000
";
        assert_eq!(Table(&answers).to_string(), expected);
    }
}
