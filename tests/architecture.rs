//! What holds of the source itself: who imports whom, how long files and functions are, and that the documents name what
//! is there.
//!
//! Sources are read as text, not parsed: comments and strings are blanked, braces counted. Unit tests, in a `mod tests`
//! at a file's end or in files of that name, are not measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

mod source;

use source::{Source, words};

/// The layers from the top; each imports only from those below it.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["bench"],
    &["cluster"],
    &["node"],
    &["http", "wire", "membership"],
    &["replication", "link", "store", "accept", "rest", "client"],
    &["config"],
    &["protocol"],
    &["note", "clock"],
];

/// Outside the layers: every module but [`PURE`] may import these, and they import only what [`ASIDE_IMPORTS`] says.
const ASIDE: &[&str] = &["observe", "net", "random", "backoff"];
const ASIDE_IMPORTS: &[&str] = &["config", "note", "clock"];

/// These never meet a socket or a log.
const PURE: &[&str] = &["replication", "protocol", "note"];

/// What `replication` may not name: it has no runtime, time, network, files or randomness of its own.
const IMPURE_CRATES: &[&str] = &["tokio", "rand", "getrandom"];
const IMPURE_STD: &[&str] = &["time", "net", "fs"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// A listener that parses by hand is only safe where it can be read in one sitting.
const HTTP_LINES_MAX: usize = 1_500;

/// The parts of paths that name the machine on which something was built, in pieces so that this file has none.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file of the crate.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    let rust = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let sources: Vec<Source> = rust.map(|path| Source::read(&root().join("src"), &path)).collect();
    assert!(sources.iter().any(|source| source.name == "lib.rs"), "src is where the manifest is");
    sources
}

/// Every file below `folder`, without what is made by building, running or versioning.
fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    const SKIPPED: &[&str] = &["target", ".git", "data", "corpus", "artifacts"];
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder that can be opened can be read").path();
        let skipped = path.file_name().is_some_and(|name| SKIPPED.iter().any(|skipped| name == *skipped));
        match path.is_dir() {
            _ if skipped => {}
            true => walk(&path, paths),
            false => paths.push(path),
        }
    }
    paths.sort();
}

fn fail_with(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn may_import(from: &str, to: &str) -> bool {
    if from == to || from == "lib" {
        return true;
    }
    if ASIDE.contains(&from) {
        return ASIDE_IMPORTS.contains(&to);
    }
    if ASIDE.contains(&to) {
        return !PURE.contains(&from);
    }
    match (layer(from), layer(to)) {
        (Some(from), Some(to)) => from < to,
        _ => false,
    }
}

#[test]
fn every_module_has_its_layer() {
    let known = |module: &str| module == "lib" || ASIDE.contains(&module) || layer(module).is_some();
    let sources = sources();
    let faults = sources.iter().filter(|source| !known(source.module()));
    fail_with(faults.map(|source| format!("src/{}: `{}` is in no layer", source.name, source.module())).collect());
}

#[test]
fn each_layer_imports_only_what_is_below_it() {
    let mut faults = Vec::new();
    for source in sources() {
        for import in source.imports() {
            if !may_import(source.module(), &import) {
                faults.push(format!("src/{}: `{}` may not import `{import}`", source.name, source.module()));
            }
        }
    }
    fail_with(faults);
}

#[test]
fn replication_is_pure() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.module() == "replication") {
        let named = words(&source.code);
        let crates = IMPURE_CRATES.iter().filter(|name| named.contains(**name)).map(|name| (*name).to_owned());
        let std = source.paths_under("std");
        let std = std.iter().filter(|name| IMPURE_STD.contains(&name.as_str())).map(|name| format!("std::{name}"));
        faults.extend(crates.chain(std).map(|name| format!("src/{}: names {name}", source.name)));
    }
    fail_with(faults);
}

#[test]
fn files_and_functions_are_short() {
    let mut faults = Vec::new();
    for source in sources() {
        let lines = source.code.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("src/{}: {lines} lines, at most {FILE_LINES_MAX}", source.name));
        }
        for function in source.functions().into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let source::Function { name, line, lines } = function;
            faults
                .push(format!("src/{}:{line}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}", source.name));
        }
    }
    fail_with(faults);
}

#[test]
fn the_http_listener_is_short() {
    let lines = |source: &Source| source.code.lines().count();
    let all: usize = sources().iter().filter(|source| source.module() == "http").map(lines).sum();
    assert!((1..=HTTP_LINES_MAX).contains(&all), "src/http/ has {all} lines, at most {HTTP_LINES_MAX}");
}

/// The list in lib.rs: each module's text, by its name.
fn map() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("the library has its first file");
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    let mut module = None;
    for line in text.lines().map_while(|line| line.strip_prefix("//!")) {
        if let Some(item) = line.strip_prefix(" * `") {
            let (name, rest) = item.split_once('`').expect("a name ends with a backtick");
            modules.insert(name.to_owned(), rest.to_owned());
            module = Some(name.to_owned());
        } else if let Some(name) = module.as_ref().filter(|_| line.starts_with("   ")) {
            modules.entry(name.clone()).or_default().push_str(line);
        } else {
            module = None;
        }
    }
    modules
}

#[test]
fn the_map_in_lib_rs_names_every_file() {
    let map = map();
    let mut faults = Vec::new();
    let sources = sources();
    for source in sources.iter().filter(|source| source.module() != "lib") {
        let named = match (map.get(source.module()), source.inner()) {
            (Some(_), None) => true,
            (Some(text), Some(inner)) => text.contains(&format!("`{inner}`")),
            (None, _) => false,
        };
        if !named {
            faults.push(format!("src/{} is not in the list of modules in src/lib.rs", source.name));
        }
    }
    fail_with(faults);
}

/// Modules that are not there yet may stand in the map; of those that are, it names no file that is not.
#[test]
fn the_map_in_lib_rs_names_no_file_that_is_gone() {
    let sources = sources();
    let mut faults = Vec::new();
    for (module, text) in map() {
        let of_module: Vec<&Source> = sources.iter().filter(|source| source.module() == module).collect();
        let is_file = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '/');
        for name in text.split('`').skip(1).step_by(2).filter(|name| is_file(name)) {
            if !of_module.is_empty() && !of_module.iter().any(|source| source.inner().as_deref() == Some(name)) {
                faults.push(format!("src/lib.rs: the list says `{name}` of `{module}`, but there is no such file"));
            }
        }
    }
    fail_with(faults);
}

#[test]
fn documents_name_only_files_that_are_there() {
    let mut faults = Vec::new();
    for document in ["README.md", "protocol.md"] {
        let Ok(text) = fs::read_to_string(root().join(document)) else { continue };
        let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        for path in quoted.filter(|text| text.starts_with("src/")) {
            // `src/a.rs::function` and `src/a.rs:12` name a place in the file.
            let file = path.split(':').next().unwrap_or(path);
            if !root().join(file).exists() {
                faults.push(format!("{document}: there is no {path}"));
            }
        }
    }
    fail_with(faults);
}

#[test]
fn no_file_names_a_path_of_a_build_machine() {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    let mut faults = Vec::new();
    for path in paths {
        // Files that are no text hold no paths that anybody reads.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for part in MACHINE_PATHS.iter().filter(|part| line.contains(**part)) {
                faults.push(format!("{}:{}: names {part}", path.display(), number + 1));
            }
        }
    }
    fail_with(faults);
}
