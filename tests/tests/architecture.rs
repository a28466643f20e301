//! The layers, as a table that the sources must fit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Which modules of core a module may name, besides itself. Plain ones first, the client side last.
///
/// A new module needs a row here: that is the moment to think about where it belongs.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("random", &[]),
    ("meter", &[]),
    ("lease", &["error"]),
    // The words of access control are part of what an RBAC definition is made of, and these two are equally pure.
    ("resource", &["error", "random", "rbac"]),
    ("rbac", &["error", "resource"]),
    ("store", &["error", "meter", "random", "rbac", "resource"]),
    ("net", &["resource"]),
    ("process", &[]),
    ("secret", &["error", "net", "random", "resource", "store"]),
    ("auth", &["error", "random", "rbac", "resource", "secret", "store"]),
    (
        "registry",
        &["audit", "auth", "error", "lease", "meter", "random", "rbac", "resource", "secret", "store"],
    ),
    ("wire", &["error"]),
    ("adapter", &["error", "resource", "wire"]),
    ("audit", &["error", "meter", "resource", "store"]),
    (
        "gateway",
        &[
            "adapter", "audit", "auth", "error", "lease", "meter", "net", "process", "random", "rbac",
            "registry", "resource", "secret", "wire",
        ],
    ),
    ("backup", &["error", "random", "resource"]),
    ("client", &["error", "rbac", "resource", "wire"]),
    ("failover", &["adapter", "client", "error", "lease", "process", "resource", "secret", "wire"]),
    ("conformance", &["error", "random", "rbac", "resource", "store"]),
];

/// Modules that do no I/O, and so have no reason to be async.
const PURE: &[&str] = &["error", "resource", "rbac", "wire", "adapter", "backup", "lease"];

/// Who alone may name a crate, by the beginning of the path inside core.
const ONLY: &[(&[&str], &[&str])] = &[
    (&["diesel", "diesel_async", "diesel_migrations", "libsqlite3_sys"], &["store/sql"]),
    (&["reqwest", "hyper_util", "hyper_rustls"], &["gateway/transport", "secret/openbao", "client"]),
    (&["ring"], &["lease"]),
    // Its types of bodies travel through the gateway.
    (&["hyper"], &["gateway", "secret/openbao", "client"]),
];

/// What a library leaves to the program around it.
const NOT_IN_CORE: &[&str] = &[
    "hyper::server",
    "hyper_util::server",
    "clap",
    "pyo3",
    "std::env",
    "env::var",
    "home_dir",
    "BaseDirs",
    "ProjectDirs",
    "println!",
    "eprintln!",
    "print!",
    "tracing_subscriber",
];

const WRAPPERS: &[&str] = &["mcpctl-server", "mcpctl-cli", "mcpctl-py"];

struct Source {
    /// The path inside the workspace.
    path: String,
    /// The code, without comments, strings and inline test modules.
    code: String,
    lines: usize,
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&workspace().join(folder), &mut files);
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(workspace()).unwrap().to_string_lossy().into_owned();
        Source { path, code: code_of(&text), lines: text.lines().count() }
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "__pycache__"].contains(&name.as_str()) {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

/// What is left of a source when comments, string literals and inline test modules are taken away.
fn code_of(text: &str) -> String {
    let text = text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(before, _)| before);
    text.lines().map(code_of_line).collect::<Vec<_>>().join("\n")
}

fn code_of_line(line: &str) -> String {
    let (mut code, mut quoted, mut escaped, mut before) = (String::new(), false, false, ' ');
    for letter in line.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            // A quote in a character literal is no string.
            '"' if before != '\'' => quoted = !quoted,
            '/' if !quoted && before == '/' => {
                code.pop();
                return code;
            }
            _ if quoted => {}
            _ => code.push(letter),
        }
        before = letter;
    }
    code
}

/// The module of core a source belongs to: `store` for `mcpctl-core/src/store/sql/mod.rs`.
fn module_of(path: &str) -> &str {
    let inside = path.strip_prefix("mcpctl-core/src/").unwrap();
    inside.split(['/', '.']).next().unwrap().trim_end_matches("_tests")
}

/// Whether the source is only compiled for tests.
fn is_test(path: &str) -> bool {
    path.ends_with("_tests.rs") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The first segments of every path that begins with `crate::`, groups taken apart.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, marker) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        // `$crate::` counts; `my_crate::` is something else.
        if before.is_alphanumeric() || before == '_' {
            continue;
        }
        let rest = &code[at + marker.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(group_heads(group));
        } else {
            found.insert(head(rest));
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// The first segments inside `{a::b, c::{d, e}}`, given from after its first brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut start) = (0, Vec::new(), 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(head(&group[start..at]));
                return heads;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> String {
    path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// Whether `code` uses the crate or path `name`, as a word of its own.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let boundary =
            |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_');
        let (before, after) = (code[..at].chars().next_back(), code[at + name.len()..].chars().next());
        // `.hyper` would be a field and `::hyper` an inner module.
        boundary(before) && !matches!(before, Some('.')) && (name.ends_with('!') || boundary(after))
    })
}

/// Whether `code` uses the crate `name`: a path that begins with it.
fn uses_crate(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(&path).any(|(at, _)| match code[..at].strip_suffix("::") {
        Some(before) => !before.ends_with(letter),
        None => !code[..at].ends_with(letter),
    }) || code.lines().any(|line| line.trim() == format!("use {name};"))
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn arrows_point_down_only() {
    let table: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources("mcpctl-core/src") {
        let module = module_of(&source.path);
        if module == "lib" || is_test(&source.path) {
            continue;
        }
        let Some(allowed) = table.get(module) else {
            faults.push(format!("{}: module `{module}` has no row in the table of layers", source.path));
            continue;
        };
        for named in crate_paths(&source.code) {
            // Re-exports at the root (`crate::Error`) come from the bottom layer.
            let at_root = named.chars().next().is_some_and(char::is_uppercase);
            if named != module && !at_root && !allowed.contains(&named.as_str()) {
                faults.push(format!("{}: `{module}` must not name `crate::{named}`", source.path));
            }
        }
    }
    report(&faults);
}

#[test]
fn the_table_itself_has_no_circle() {
    // The one pair that is mutual on purpose: both are pure words without behaviour of their own.
    let mutual = [("resource", "rbac"), ("rbac", "resource")];
    let table: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    while placed.len() < table.len() {
        let fits = |module: &&str| {
            let below = table[*module].iter();
            below.clone().all(|name| placed.contains(name) || mutual.contains(&(*module, *name)))
        };
        let next: Vec<&str> =
            table.keys().copied().filter(|name| !placed.contains(name)).filter(fits).collect();
        assert!(!next.is_empty(), "a circle among {:?}", table.keys().filter(|name| !placed.contains(*name)));
        placed.extend(next);
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let long = sources("").into_iter().filter(|source| source.lines > 500);
    report(&long.map(|source| format!("{}: {} lines", source.path, source.lines)).collect::<Vec<_>>());
}

#[test]
fn each_outside_library_is_named_in_one_place() {
    let mut faults = Vec::new();
    for source in sources("mcpctl-core/src") {
        let inside = source.path.strip_prefix("mcpctl-core/src/").unwrap();
        for (crates, places) in ONLY {
            let allowed = places.iter().any(|place| inside.starts_with(place));
            for name in crates.iter().filter(|name| !allowed && uses_crate(&source.code, name)) {
                faults.push(format!("{}: only {} may name {name}", source.path, places.join(", ")));
            }
        }
    }
    report(&faults);
}

#[test]
fn diesel_is_named_in_core_alone() {
    let others = ["mcpctl-server", "mcpctl-cli", "mcpctl-py"].into_iter().flat_map(sources);
    let faults =
        others.filter(|source| ["diesel", "diesel_async"].iter().any(|name| uses_crate(&source.code, name)));
    report(&faults.map(|source| format!("{}: names diesel", source.path)).collect::<Vec<_>>());
}

#[test]
fn core_leaves_the_program_to_the_program() {
    let mut faults = Vec::new();
    for source in sources("mcpctl-core/src").iter().filter(|source| !is_test(&source.path)) {
        for name in NOT_IN_CORE.iter().filter(|name| names(&source.code, name)) {
            faults.push(format!("{}: core must not name {name}", source.path));
        }
    }
    report(&faults);
}

#[test]
fn pure_modules_are_not_async() {
    let mut faults = Vec::new();
    for source in sources("mcpctl-core/src") {
        if PURE.contains(&module_of(&source.path))
            && !is_test(&source.path)
            && ["async", "await", "tokio", "async_trait"].iter().any(|word| names(&source.code, word))
        {
            faults.push(format!("{}: is async, and its layer does no I/O", source.path));
        }
    }
    report(&faults);
}

#[test]
fn no_wrapper_depends_on_another() {
    let mut faults = Vec::new();
    for wrapper in WRAPPERS {
        let manifest = fs::read_to_string(workspace().join(wrapper).join("Cargo.toml")).unwrap();
        for other in WRAPPERS.iter().filter(|other| other != &wrapper) {
            let depends = |line: &str| line.trim_start().starts_with(other);
            if manifest.lines().any(depends) {
                faults.push(format!("{wrapper} depends on {other}"));
            }
        }
    }
    let cli = fs::read_to_string(workspace().join("mcpctl-cli/Cargo.toml")).unwrap();
    if cli.contains("\"sqlite\"") || cli.contains("\"postgres\"") {
        faults.push("mcpctl-cli asks core for a database".to_owned());
    }
    report(&faults);
}

#[test]
fn every_crate_says_what_it_is() {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    let members = members.split('"').skip(1).step_by(2);
    let mut faults = Vec::new();
    for member in members {
        let readme = fs::read_to_string(workspace().join(member).join("README.md")).unwrap_or_default();
        if readme.lines().filter(|line| !line.trim().is_empty()).count() < 2 {
            faults.push(format!("{member}: no README.md that says what it is"));
        }
    }
    report(&faults);
}

mod scanner {
    use super::*;

    #[test]
    fn paths_are_found_in_every_spelling() {
        let code = "use crate::{\n    error::{Error, Result},\n    store::Store, rbac,\n};\nfn f() { crate::wire::x() }";
        let found: Vec<String> = crate_paths(code).into_iter().collect();
        assert_eq!(found, ["error", "rbac", "store", "wire"]);
    }

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        let code = code_of(
            "// crate::a\nlet x = \"crate::b\"; // crate::c\ncrate::d();\n#[cfg(test)]\nmod tests {\ncrate::e\n}",
        );
        assert_eq!(crate_paths(&code).into_iter().collect::<Vec<_>>(), ["d"]);
    }

    #[test]
    fn a_crate_is_told_from_what_only_looks_like_it() {
        assert!(uses_crate("use hyper::Request;", "hyper"));
        assert!(uses_crate("let x = ::hyper::body();", "hyper"));
        assert!(!uses_crate("use hyper_util::x; self::hyper::y", "hyper"));
        assert!(names("println!(x)", "println!") && !names("eprintln!(x)", "println!"));
    }
}
