//! What the replicas say of themselves, as a table. Pure.

use std::fmt;

use primacy::protocol::status::{LinkStatus, Status};

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

/// The answers, one line each; its `Display` ends with a newline.
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
        Ok(())
    }
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
    use primacy::protocol::status::ViewStatus;

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
";
        assert_eq!(Table(&answers).to_string(), expected);
    }
}
