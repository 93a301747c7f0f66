//! What `--out` writes: report.html, result.json, histograms.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::BenchError;
use super::plots::{self, Plot};
use super::result::{RESULT_FILE, RunResult};
use super::run::Outcome;

/// The page's name.
const REPORT_FILE: &str = "report.html";

/// All latencies as an HdrHistogram interval log: a tag for each scenario, values in ns.
const HISTOGRAMS_FILE: &str = "histograms.hlog";

/// The log's values are ns, its readable column ms.
const NS_PER_MS: f64 = 1e6;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;color:#282c34;background:#f5f6f8;margin:0}\
main{max-width:1000px;margin:0 auto;padding:32px 24px}\
h1{font-size:28px;margin:0 0 4px}h2{font-size:20px;margin:0 0 8px}\
p.of{color:#5c6370;margin:0 0 24px}\
section{background:#fff;border:1px solid #e2e5ea;border-radius:8px;padding:20px 24px;margin:0 0 24px}\
svg{max-width:100%;height:auto;display:block}\
section p{color:#4b5160;font-size:14px;margin:8px 0 0}\
pre{font:12px/1.45 ui-monospace,monospace;overflow-x:auto;margin:0}\
li{margin:4px 0}\
@media(prefers-color-scheme:dark){body{color:#d8dbe0;background:#16181d}section{background:#000;border-color:#30343c}\
p.of,section p{color:#a4abb8}svg{filter:invert(1) hue-rotate(180deg)}}";

/// Writes all three; the folder is made where it is not there.
pub(super) fn write(outcome: &Outcome, folder: &Path) -> Result<(), BenchError> {
    fs::create_dir_all(folder).map_err(|source| BenchError::Write { path: folder.to_owned(), source })?;
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|source| BenchError::Write { path, source })
    };
    let json = serde_json::to_vec_pretty(&outcome.result).map_err(std::io::Error::from);
    let json = json.map_err(|source| BenchError::Write { path: folder.join(RESULT_FILE), source })?;
    put(RESULT_FILE, &json)?;
    put(HISTOGRAMS_FILE, &histograms(outcome, folder)?)?;
    put(REPORT_FILE, page(outcome, &plots::all(outcome)?).as_bytes())
}

fn histograms(outcome: &Outcome, folder: &Path) -> Result<Vec<u8>, BenchError> {
    let failed =
        |why: String| BenchError::Write { path: folder.join(HISTOGRAMS_FILE), source: std::io::Error::other(why) };
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("primacy bench: latencies in ns, a tag for each scenario")
        .with_start_time(SystemTime::now() - Duration::from_secs_f64(outcome.result.took_s))
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| failed(error.to_string()))?;
    let took = Duration::from_secs_f64(outcome.result.took_s);
    for (scenario, histogram) in &outcome.histograms {
        let name = scenario.to_string();
        let tag = Tag::new(&name).ok_or_else(|| failed(format!("{name} cannot be a tag")))?;
        log.write_histogram(histogram, Duration::ZERO, took, Some(tag))
            .map_err(|error| failed(format!("{error:?}")))?;
    }
    Ok(bytes)
}

/// The page: it needs nothing beside itself.
fn page(outcome: &Outcome, plots: &[Plot]) -> String {
    let result = &outcome.result;
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    // Writing to a string cannot fail.
    let _ = write!(page, "<title>primacy bench</title><style>{STYLE}</style></head>\n<body><main>");
    let _ = write!(page, "<h1>primacy bench</h1>\n<p class=\"of\">{}</p>\n", escaped(&about(result)));
    if !result.warnings.is_empty() {
        page += "<section><h2>Mind this</h2><ul>";
        for warning in &result.warnings {
            let _ = write!(page, "<li>{}</li>", escaped(warning));
        }
        page += "</ul></section>\n";
    }
    for Plot { title, how, svg } in plots {
        let _ = writeln!(page, "<section><h2>{}</h2>\n{svg}\n<p>{}</p></section>", escaped(title), escaped(how));
    }
    let _ = writeln!(page, "<section><h2>All figures</h2><pre>{}</pre></section>", escaped(&outcome.table()));
    page + "</main></body></html>\n"
}

fn about(result: &RunResult) -> String {
    let of = match result.measured.target.is_empty() {
        true => format!("clusters of {} replicas", result.measured.replicas),
        false => format!("the cluster at {}", result.measured.target.join(", ")),
    };
    format!(
        "{of}, notes of {} bytes, {} rounds; {} cores, {}; primacy {}; {}, {:.0} s",
        result.measured.note_bytes,
        result.measured.rounds,
        result.machine.cores,
        result.machine.system,
        result.primacy,
        result.started,
        result.took_s
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
