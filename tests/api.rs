//! What the crate promises: its public names as they are written in the sources, and manners that a library has.
//!
//! The listing is made from the sources with a parser, so that it needs no toolchain but the one that builds the crate. It
//! knows names, fields, variants and signatures; traits that are derived or implemented, and what a name means, it does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::{Fields, ImplItem, Item, TraitItem, Type, UseTree, Visibility};

#[test]
fn public_names_are_as_recorded() {
    let mut listing = Listing::default();
    listing.module(&root().join("src/lib.rs"), "repass", None);
    let text = listing.text();
    let path = root().join("tests/api.txt");
    if std::env::var_os("REPASS_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let of = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (now, then) = (of(&text), of(&recorded));
    let gone: Vec<_> = then.difference(&now).collect();
    let new: Vec<_> = now.difference(&then).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public names changed: who uses them must know (CHANGELOG.md), then REPASS_BLESS=1\ngone: {gone:#?}\nnew: {new:#?}"
    );
}

/// Words that print, end the process or change what it shares, and where they are allowed.
const MANNERS: &[(&str, &[&str])] = &[
    ("println!", &[]),
    ("eprintln!", &[]),
    ("print!(", &[]),
    ("dbg!", &[]),
    ("io::stdout", &[]),
    ("io::stderr", &[]),
    ("process::exit", &[]),
    ("process::abort", &[]),
    ("set_hook", &[]),
    ("set_current_dir", &[]),
    ("remove_var", &[]),
    // Called by nobody in the crate: the process owner's choice (see the crate's documentation).
    ("set_var", &["src/av.rs"]),
    ("mallopt", &["src/av.rs"]),
    ("av_log_set_level", &["src/av/log.rs"]),
    ("repass_log_capture(", &["src/av/log.rs"]),
];

/// Calls that change something of the process: public, and made by the program alone.
const PROCESS_WIDE: [&str; 4] = ["quiet_svt_av1()", "let_jobs_zero_memory()", "log::capture()", "log::let_through("];

#[test]
fn the_library_does_not_print_nor_exit_nor_change_what_the_process_shares() {
    for file in sources() {
        let name = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for (word, allowed) in MANNERS {
                assert!(!line.contains(word) || allowed.contains(&name.as_str()), "{name}:{}: {line}", number + 1);
            }
            let defines = line.contains("pub fn ") || line.contains("pub unsafe fn ");
            for call in PROCESS_WIDE {
                assert!(defines || !line.contains(call), "{name}:{}: the library calls {call}", number + 1);
            }
        }
    }
}

/// Rust files of the library: all but the program's.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_program = path.ends_with("src/cli") || path.ends_with("src/cli.rs") || path.ends_with("src/main.rs");
            match () {
                () if is_program => {}
                () if path.is_dir() => walk(&path, into),
                () if path.extension().is_some_and(|extension| extension == "rs") => into.push(path),
                () => {}
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    assert!(files.len() > 30, "the sources are where they were");
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Public names as they are met.
#[derive(Default)]
struct Listing {
    lines: BTreeSet<String>,
    /// Public types by their name alone, and where they are.
    types: BTreeMap<String, String>,
    /// Methods, kept until all public types are known: their type, and the line.
    methods: Vec<(String, String)>,
}

impl Listing {
    fn text(mut self) -> String {
        for (owner, line) in self.methods {
            if let Some(path) = self.types.get(&owner) {
                self.lines.insert(format!("{path}::{line}"));
            }
        }
        self.lines.into_iter().map(|line| line + "\n").collect()
    }

    /// A module's file. `only` are the names that its parent hands on from a private one; `None`: all that is public.
    fn module(&mut self, file: &Path, path: &str, only: Option<&BTreeSet<String>>) {
        let parsed = syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap();
        let handed_on = handed_on(&parsed.items);
        for item in &parsed.items {
            match item {
                Item::Mod(module) if module.content.is_none() => {
                    let name = module.ident.to_string();
                    let child = child(file, &name);
                    match (is_public(&module.vis), handed_on.get(&name)) {
                        (true, _) if only.is_none() => self.module(&child, &format!("{path}::{name}"), None),
                        (_, Some(names)) => self.module(&child, path, Some(names)),
                        _ => self.module(&child, path, Some(&BTreeSet::new())),
                    }
                }
                item => self.item(item, path, only),
            }
        }
    }

    fn item(&mut self, item: &Item, path: &str, only: Option<&BTreeSet<String>>) {
        let is_out = |vis: &Visibility, name: &str| is_public(vis) && only.is_none_or(|only| only.contains(name));
        match item {
            Item::Struct(item) if is_out(&item.vis, &item.ident.to_string()) => {
                let path = self.named(path, &item.ident.to_string(), "struct");
                self.fields(&path, &item.fields, true);
            }
            Item::Enum(item) if is_out(&item.vis, &item.ident.to_string()) => {
                let path = self.named(path, &item.ident.to_string(), "enum");
                for variant in &item.variants {
                    let path = format!("{path}::{}", variant.ident);
                    self.lines.insert(path.clone());
                    self.fields(&path, &variant.fields, false);
                }
            }
            Item::Trait(item) if is_out(&item.vis, &item.ident.to_string()) => {
                let path = self.named(path, &item.ident.to_string(), "trait");
                for item in &item.items {
                    if let TraitItem::Fn(function) = item {
                        self.lines.insert(format!("{path}::{}", tidy(&function.sig)));
                    }
                }
            }
            Item::Fn(item) if is_out(&item.vis, &item.sig.ident.to_string()) && !is_hidden(&item.attrs) => {
                self.lines.insert(format!("{path}::{}", tidy(&item.sig)));
            }
            Item::Const(item) if is_out(&item.vis, &item.ident.to_string()) => {
                self.lines.insert(format!("{path}::{}: {}", item.ident, tidy(&item.ty)));
            }
            Item::Type(item) if is_out(&item.vis, &item.ident.to_string()) => {
                self.lines.insert(format!("{path}::{} = {}", item.ident, tidy(&item.ty)));
            }
            Item::Impl(item) if item.trait_.is_none() => self.methods(item),
            _ => {}
        }
    }

    fn named(&mut self, path: &str, name: &str, kind: &str) -> String {
        let path = format!("{path}::{name}");
        self.lines.insert(format!("{path} ({kind})"));
        self.types.insert(name.to_owned(), path.clone());
        path
    }

    fn fields(&mut self, path: &str, fields: &Fields, need_pub: bool) {
        for (number, field) in fields.iter().enumerate() {
            if !need_pub || is_public(&field.vis) {
                let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
                self.lines.insert(format!("{path}.{name}: {}", tidy(&field.ty)));
            }
        }
    }

    fn methods(&mut self, item: &syn::ItemImpl) {
        let Type::Path(owner) = item.self_ty.as_ref() else { return };
        let Some(owner) = owner.path.segments.last().map(|segment| segment.ident.to_string()) else { return };
        for item in &item.items {
            match item {
                ImplItem::Fn(function) if is_public(&function.vis) && !is_hidden(&function.attrs) => {
                    self.methods.push((owner.clone(), tidy(&function.sig)));
                }
                ImplItem::Const(constant) if is_public(&constant.vis) => {
                    self.methods.push((owner.clone(), format!("{}: {}", constant.ident, tidy(&constant.ty))));
                }
                _ => {}
            }
        }
    }
}

/// The file of a child module.
fn child(file: &Path, name: &str) -> PathBuf {
    let folder = match file.file_stem().unwrap().to_str().unwrap() {
        "lib" => file.parent().unwrap().to_owned(),
        _ => file.with_extension(""),
    };
    folder.join(format!("{name}.rs"))
}

/// The names that a module hands on from its children, by child.
fn handed_on(items: &[Item]) -> BTreeMap<String, BTreeSet<String>> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for item in items {
        if let Item::Use(item) = item
            && is_public(&item.vis)
            && let UseTree::Path(path) = &item.tree
        {
            names.entry(path.ident.to_string()).or_default().extend(leaves(&path.tree));
        }
    }
    names
}

fn leaves(tree: &UseTree) -> Vec<String> {
    match tree {
        UseTree::Path(path) => leaves(&path.tree),
        UseTree::Name(name) => vec![name.ident.to_string()],
        UseTree::Rename(rename) => vec![rename.ident.to_string()],
        UseTree::Glob(_) => Vec::new(),
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

fn is_hidden(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.to_token_stream().to_string().contains("hidden"))
}

/// Source text without the spaces that a token stream prints.
fn tidy(tokens: &impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    let tight = [
        (" :: ", "::"),
        (" < ", "<"),
        (" > ", "> "),
        (" >", ">"),
        ("& ", "&"),
        (" ,", ","),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" : ", ": "),
        (" [", "["),
        ("[ ", "["),
        (" ]", "]"),
        (" ;", ";"),
    ];
    tight
        .iter()
        .fold(text, |text, (loose, close)| text.replace(loose, close))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
