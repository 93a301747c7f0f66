//! Reads config.json, lays environment and flags over it, and checks all of it.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::address::parse_host;
use super::error::{ConfigError, Found, Origin};
use super::given::{Given, Value, Values};
use super::limits::BOUNDS;
use super::secret::{self, Secret, SecretFileError};
use super::tls::{self, Authority, Tls, TlsError};
use super::{Address, Config, Durability, LinkUse, LogStyle, Mode};
use crate::protocol::ids::REPLICAS_MAX;

/// Every key of config.json, as in the README's table. Each is a flag and an environment variable too.
pub const KEYS: &[&str] = &[
    "service",
    "sync",
    "replicas",
    "min_in_sync",
    "failure_timeout_ms",
    "link_delay_ms",
    "links",
    "data",
    "durability",
    "log",
    "request_timeout_ms",
    "read_wait_ms",
    "hosts",
    "listen",
    "limits",
    "secret_file",
    "insecure",
    "token_file",
    "tls",
];

/// The keys inside `tls`; all are needed.
pub(super) const TLS_KEYS: [&str; 3] = ["cert", "key", "ca"];

/// The secret itself, given by the environment alone: files are read by others, and so are command lines.
pub const SECRET: &str = "secret";

/// Longest config.json, in bytes: sixteen replicas and every key need a hundredth of it.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Most further host names of the service. They are compared one by one with each request's.
const HOSTS_MAX: usize = 64;

/// Longest simulated delay one way, in ms: three times the way round the earth.
const LINK_DELAY_MS_MAX: f64 = 500.0;

/// A failure timeout under 200 ms would take a scheduler's pause for a death; over ten minutes it finds none.
const FAILURE_TIMEOUT_MS: RangeInclusive<u64> = 200..=600_000;

/// What a client may wait: past ten minutes it has gone.
const WAIT_MS: RangeInclusive<u64> = 1..=600_000;

/// A value from outside the file.
#[derive(Clone, Debug)]
pub struct Override {
    /// One of [`KEYS`], or [`SECRET`].
    pub key: &'static str,
    /// Flag or environment.
    pub origin: Origin,
    /// The value; lists are separated by commas, `limits` and `tls` are JSON.
    pub text: String,
}

/// Reads the file at `path` and checks it together with `overrides`: where a key is given more than once, the last
/// override counts, so those of the environment must stand before those of the command line.
pub fn load(path: &Path, overrides: &[Override]) -> Result<Config, ConfigError> {
    check(path, &read(path)?, overrides)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => ConfigError::NoFile(path.to_owned()),
        _ => ConfigError::Unreadable { path: path.to_owned(), source },
    };
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong { path: path.to_owned(), max: FILE_BYTES_MAX });
    }
    Ok(text)
}

/// Checks the text of the file at `path` together with `overrides`.
fn check(path: &Path, text: &str, overrides: &[Override]) -> Result<Config, ConfigError> {
    let values = Values::collect(path, text, overrides)?;
    let service = required(&values, "service", "\"service\": 9988, the port of the first HTTP service", service)?;
    let sync = required(&values, "sync", "\"sync\": \"remote-write\" or \"sync\": \"local-write\"", mode)?;
    let replicas = required(&values, "replicas", "\"replicas\": [\"127.0.0.1:10000\", …], one for each", addresses)?;
    let mut config = Config::new(sync, replicas, service);
    let replicas = config.replicas.len() as u64;
    put(&values, "min_in_sync", &mut config.min_in_sync, |given| {
        let remedy = || format!("write a whole number from 1 to {replicas}, the number of replicas");
        let count = given.read(|value| within(value, 1..=replicas), remedy)?;
        Ok(count as usize)
    })?;
    put(&values, "failure_timeout_ms", &mut config.failure_timeout_ms, |given| whole(given, FAILURE_TIMEOUT_MS))?;
    put(&values, "link_delay_ms", &mut config.link_delay_us, link_delay_us)?;
    put(&values, "links", &mut config.links, links)?;
    put(&values, "data", &mut config.data, data)?;
    put(&values, "durability", &mut config.durability, durability)?;
    put(&values, "log", &mut config.log, log)?;
    put(&values, "request_timeout_ms", &mut config.request_timeout_ms, |given| whole(given, WAIT_MS))?;
    put(&values, "read_wait_ms", &mut config.read_wait_ms, |given| whole(given, WAIT_MS))?;
    put(&values, "hosts", &mut config.hosts, hosts)?;
    put(&values, "listen", &mut config.listen, |given| listen(given).map(Some))?;
    for bound in BOUNDS {
        if let Some(given) = values.get(&format!("limits.{}", bound.name)) {
            (bound.set)(&mut config.limits, whole(given, bound.min..=bound.max)?);
        }
    }
    config.secret = secret(&values)?;
    put(&values, "insecure", &mut config.insecure, yes_or_no)?;
    put(&values, "token_file", &mut config.tokens, |given| secret_file(given, secret::read_tokens).map(Some))?;
    config.tls = tls(&values)?;
    check_service_ports(&values, &config)?;
    check_limits(&values, &config)?;
    Ok(config)
}

fn required<T>(
    values: &Values,
    key: &str,
    example: &'static str,
    read: impl FnOnce(&Given) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    match values.get(key) {
        Some(given) => read(given),
        None => Err(ConfigError::Missing { place: values.place(key), example }),
    }
}

/// Replaces the default where the key is given.
fn put<T>(
    values: &Values,
    key: &str,
    place: &mut T,
    read: impl FnOnce(&Given) -> Result<T, ConfigError>,
) -> Result<(), ConfigError> {
    if let Some(given) = values.get(key) {
        *place = read(given)?;
    }
    Ok(())
}

fn within(value: &Value, range: RangeInclusive<u64>) -> Option<u64> {
    value.whole().filter(|number| range.contains(number))
}

fn whole(given: &Given, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
    let remedy = || format!("write a whole number from {} to {}", range.start(), range.end());
    given.read(|value| within(value, range.clone()), remedy)
}

/// One of a few words.
fn word<T: Copy>(given: &Given, words: &[(&str, T)]) -> Result<T, ConfigError> {
    let find = |text: String| words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    let quote = |(word, _): &(&str, T)| match given.place.origin {
        Origin::File(_) => format!("\"{word}\""),
        _ => (*word).to_owned(),
    };
    let remedy = || format!("write {}", words.iter().map(quote).collect::<Vec<_>>().join(" or "));
    given.read(|value| value.text().and_then(find), remedy)
}

fn service(given: &Given) -> Result<u16, ConfigError> {
    let remedy = || "write a port, a whole number from 1 to 65535".to_owned();
    given.read(|value| value.whole().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0), remedy)
}

fn mode(given: &Given) -> Result<Mode, ConfigError> {
    word(given, &[Mode::RemoteWrite, Mode::LocalWrite].map(|mode| (mode.word(), mode)))
}

fn links(given: &Given) -> Result<LinkUse, ConfigError> {
    word(given, &[LinkUse::Persistent, LinkUse::PerFrame].map(|links| (links.word(), links)))
}

fn durability(given: &Given) -> Result<Durability, ConfigError> {
    word(given, &[("disk", Durability::Disk), ("memory", Durability::Memory)])
}

fn log(given: &Given) -> Result<LogStyle, ConfigError> {
    word(given, &[("classic", LogStyle::Classic), ("json", LogStyle::Json), ("off", LogStyle::Off)])
}

fn addresses(given: &Given) -> Result<Vec<Address>, ConfigError> {
    let remedy = || "write a list of addresses, for instance [\"127.0.0.1:10000\", \"127.0.0.1:20000\"]".to_owned();
    let texts = given.read(Value::list, remedy)?;
    if !(1..=REPLICAS_MAX).contains(&texts.len()) {
        let remedy = format!("write 1 to {REPLICAS_MAX} addresses, not {}", texts.len());
        return Err(given.refuse(remedy));
    }
    let mut addresses: Vec<Address> = Vec::with_capacity(texts.len());
    for (item, text) in texts.into_iter().enumerate() {
        let place = given.place.at(item);
        let address = text.parse().map_err(|source| {
            let found = Found(quoted(&text));
            ConfigError::Address { place: place.clone(), found, source }
        })?;
        if let Some(first) = addresses.iter().position(|other| *other == address) {
            let remedy = format!("replica {} has this address already: write each replica once", first + 1);
            return Err(ConfigError::Value { place, found: Found(quoted(&text)), remedy });
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// Milliseconds, also parts of one, as microseconds.
fn link_delay_us(given: &Given) -> Result<u64, ConfigError> {
    let remedy = || format!("write a number of milliseconds from 0 to {LINK_DELAY_MS_MAX}");
    let fits = |ms: &f64| (0.0..=LINK_DELAY_MS_MAX).contains(ms);
    let ms = given.read(|value| value.number().filter(fits), remedy)?;
    Ok((ms * 1000.0).round() as u64)
}

fn data(given: &Given) -> Result<PathBuf, ConfigError> {
    given.read(path_in, || "write the path of a folder".to_owned())
}

fn path_in(value: &Value) -> Option<PathBuf> {
    value.text().filter(|text| !text.is_empty() && !text.contains('\0')).map(PathBuf::from)
}

fn hosts(given: &Given) -> Result<Vec<String>, ConfigError> {
    let remedy = || "write a list of host names, for instance [\"notes.example.org\"]".to_owned();
    let texts = given.read(Value::list, remedy)?;
    if texts.len() > HOSTS_MAX {
        return Err(given.refuse(format!("write at most {HOSTS_MAX} host names, not {}", texts.len())));
    }
    let read = |(item, text): (usize, String)| {
        parse_host(&text).map_err(|_| {
            let remedy = "write a host name alone, without scheme, port and path".to_owned();
            ConfigError::Value { place: given.place.at(item), found: Found(quoted(&text)), remedy }
        })
    };
    texts.into_iter().enumerate().map(read).collect()
}

fn listen(given: &Given) -> Result<IpAddr, ConfigError> {
    let remedy =
        || "write an IP address of this host, for instance 0.0.0.0 for all; names are not looked up".to_owned();
    given.read(|value| value.text()?.parse().ok(), remedy)
}

fn yes_or_no(given: &Given) -> Result<bool, ConfigError> {
    given.read(|value| value.bare().parse().ok(), || "write true or false".to_owned())
}

/// The secret of the environment, or that of the file that is named.
fn secret(values: &Values) -> Result<Option<Secret>, ConfigError> {
    match (values.get(SECRET), values.get("secret_file")) {
        (None, None) => Ok(None),
        (Some(_), Some(given)) => Err(ConfigError::TwoSecrets(given.place.clone())),
        (Some(Given { place, value }), None) => {
            let text = value.text().unwrap_or_default();
            text.parse().map(Some).map_err(|source| ConfigError::Secret { place: place.clone(), source })
        }
        (None, Some(given)) => secret_file(given, |path| Ok(secret::read(path)?.parse()?)).map(Some),
    }
}

/// What `read` makes of the file with secrets that is named.
fn secret_file<T>(given: &Given, read: impl FnOnce(&Path) -> Result<T, SecretFileError>) -> Result<T, ConfigError> {
    let path = given.read(path_in, || "write the path of a file".to_owned())?;
    read(&path).map_err(|source| ConfigError::SecretFile { place: given.place.clone(), path, source })
}

/// The files of `tls`, where it is given.
fn tls(values: &Values) -> Result<Option<Tls>, ConfigError> {
    if values.get("tls").is_none() {
        return Ok(None);
    }
    let chain = tls_file(values, "tls.cert", "\"cert\": \"replica.pem\", the certificate", tls::read_chain)?;
    let authority = tls_file(values, "tls.ca", "\"ca\": \"ca.pem\", the certificate of who signs", Authority::read)?;
    let with_key = |path: &Path| Tls::new(chain, tls::read_key(path)?, authority);
    tls_file(values, "tls.key", "\"key\": \"replica.key\", the certificate's key", with_key).map(Some)
}

/// What `read` makes of a file that must be named.
fn tls_file<T>(
    values: &Values,
    key: &str,
    example: &'static str,
    read: impl FnOnce(&Path) -> Result<T, TlsError>,
) -> Result<T, ConfigError> {
    required(values, key, example, |given| {
        let path = given.read(path_in, || "write the path of a PEM file".to_owned())?;
        read(&path).map_err(|error| {
            let (place, source) = (given.place.clone(), Box::new(error));
            ConfigError::TlsFile { place, path, source }
        })
    })
}

/// The services of one host take the ports from `service` on; none may be over 65535, or taken by a replica there.
fn check_service_ports(values: &Values, config: &Config) -> Result<(), ConfigError> {
    let refuse = |remedy| {
        let found = Found(config.service.to_string());
        Err(ConfigError::Value { place: values.place("service"), found, remedy })
    };
    for replica in config.ids() {
        let host = config.address(replica).host();
        let port = usize::from(config.service) + config.service_offset(replica);
        if port > usize::from(u16::MAX) {
            let most = config.ids().map(|replica| config.service_offset(replica)).max().unwrap_or_default();
            let most = usize::from(u16::MAX) - most;
            return refuse(format!(
                "the service of replica {} would need port {port}: write at most {most}",
                config.address(replica)
            ));
        }
        let taken = |other: &&Address| other.host() == host && usize::from(other.port()) == port;
        if let Some(other) = config.replicas.iter().find(taken) {
            return refuse(format!(
                "the service of replica {} would need port {port}, where replica {other} listens: write a port away \
                 from the replicas' own",
                config.address(replica)
            ));
        }
    }
    Ok(())
}

/// Limits that contradict each other. The error names the one that was given; where both were, the line's.
fn check_limits(values: &Values, config: &Config) -> Result<(), ConfigError> {
    let (line, head) = (config.limits.request_line_bytes, config.limits.head_bytes);
    if line <= head {
        return Ok(());
    }
    let (key, found, remedy) = match values.get("limits.request_line_bytes") {
        Some(_) => ("limits.request_line_bytes", line, format!("write at most {head}, which is `limits.head_bytes`")),
        None => ("limits.head_bytes", head, format!("write at least {line}, which is `limits.request_line_bytes`")),
    };
    let remedy = format!("the request line is part of the head: {remedy}");
    Err(ConfigError::Value { place: values.place(key), found: Found(found.to_string()), remedy })
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests;
