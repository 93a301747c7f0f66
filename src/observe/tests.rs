use std::io::Write;
use std::sync::mpsc;

use super::classic::Log;
use super::*;

/// Collects what is written.
struct Pipe(mpsc::Sender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `act` puts on stdout and stderr in this style, without the times.
fn shown(style: LogStyle, rust_log: Option<&str>, act: impl FnOnce()) -> [Vec<String>; 2] {
    let (out, stdout) = mpsc::channel();
    let (err, stderr) = mpsc::channel();
    let (log_writer, log) = Writer::start("log", prefix(style), Pipe(out)).unwrap();
    let (diagnostics_writer, diagnostics) = Writer::start("diagnostics", Prefix::Plain, Pipe(err)).unwrap();
    let layer = LogLayer { style, log, diagnostics };
    let filter = filter(style, rust_log).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(filter).with(layer), act);
    drop((log_writer, diagnostics_writer));
    [stdout, stderr].map(|pipe| {
        let text = String::from_utf8(pipe.iter().flatten().collect()).unwrap();
        let without_time = |line: &str| line.split_once(['}', ']', ',']).map(|(_, rest)| rest.trim().to_owned());
        text.lines().filter_map(without_time).collect()
    })
}

/// One line of the log, and two diagnostics.
fn act() {
    if Log::new("a:1").enabled() {
        Log::new("a:1").client_request(None, "GET", "/note/1", b"");
    }
    tracing::warn!(target: "primacy::link", peer = "a:1\n", "lost a connection");
    tracing::info!(target: "primacy::link", "not shown");
    tracing::error!(target: "openraft::replication", "a peer is away");
}

#[test]
fn the_log_goes_to_stdout_and_diagnostics_to_stderr() {
    let [stdout, stderr] = shown(LogStyle::Classic, None, act);
    assert_eq!(stdout, ["CLIENT [REQUEST] [GET] /note/1 []"]);
    assert_eq!(stderr, [r#"WARN primacy::link: lost a connection peer="a:1\n""#]);
}

#[test]
fn the_log_can_be_json() {
    let [stdout, stderr] = shown(LogStyle::Json, None, act);
    assert_eq!(stdout, [r#""event":"client_request","method":"GET","path":"/note/1","body":"","at":"a:1"}"#]);
    assert_eq!(stderr.len(), 1);
}

#[test]
fn the_log_can_be_off_and_is_then_not_made() {
    for rust_log in [None, Some("debug"), Some("primacy::classic=debug")] {
        let [stdout, _] = shown(LogStyle::Off, rust_log, || {
            assert!(!Log::new("a:1").enabled());
            Log::new("a:1").client_request(None, "GET", "/note/1", b"");
        });
        assert!(stdout.is_empty(), "{rust_log:?}: {stdout:?}");
    }
}

#[test]
fn rust_log_filters_both() {
    let [stdout, stderr] = shown(LogStyle::Classic, Some("primacy::link=info"), act);
    assert!(stdout.is_empty());
    assert_eq!(stderr.len(), 2, "{stderr:?}");
    let [stdout, stderr] = shown(LogStyle::Classic, Some("error,primacy::classic=info"), act);
    assert_eq!((stdout.len(), stderr.len()), (1, 1), "who asks for errors gets all");
    let text = filter(LogStyle::Classic, Some("primacy=loud")).map_err(ObserveError::from).unwrap_err().to_string();
    assert!(text.starts_with("`RUST_LOG` is no filter: ") && text.ends_with("or unset it"), "{text}");
}
