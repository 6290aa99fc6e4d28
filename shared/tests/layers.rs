//! The folders of `src/` are layers: a module imports from its own layer and from those below, and never in a circle.
//!
//! An import is every path of the syntax tree that begins with `crate` or `super`. Paths inside of macro calls are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, UseTree};

/// From bottom to top.
const LAYERS: [&str; 8] =
    ["core", "platform", "identity", "coordination", "commerce", "sockets", "files", "edge"];

/// A module of a layer: `commerce::orders`.
type Module = (String, String);

/// What each module imports, and from which file.
type Imports = BTreeMap<Module, BTreeMap<Module, PathBuf>>;

#[test]
fn every_folder_is_a_layer() {
    let folders: BTreeSet<String> = fs::read_dir(source())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, LAYERS.map(str::to_owned).into());
}

#[test]
fn no_module_imports_from_a_layer_above_its_own() {
    let mut upward = Vec::new();
    for (module, imported) in &imports() {
        let above = imported.iter().filter(|(other, _)| height(other) > height(module));
        upward.extend(above.map(|(other, file)| format!("{}: {module:?} imports {other:?}", file.display())));
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let imports = imports();
    let circular: Vec<&Module> = imports.keys().filter(|module| reaches(&imports, module, module)).collect();
    assert!(circular.is_empty(), "{circular:#?}");
}

#[test]
fn imports_are_seen_in_groups_by_super_and_in_expressions() {
    let file = "
        use crate::core::{ids::UserId, money};
        use super::super::platform::dynamo;
        mod tests { use super::super::tokens; }
        fn f() -> crate::edge::http::Reply { crate::files::links::link() }
    ";
    let found = imports_of(&syn::parse_file(file).unwrap(), &["identity".into(), "users".into()]);
    let expected = [
        ("core", "ids"),
        ("core", "money"),
        ("edge", "http"),
        ("files", "links"),
        ("identity", "tokens"),
        ("platform", "dynamo"),
    ];
    assert_eq!(found, expected.map(|(layer, name)| (layer.to_owned(), name.to_owned())).into());
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn height((layer, _): &Module) -> usize {
    LAYERS.iter().position(|known| known == layer).unwrap_or_else(|| panic!("{layer} is no layer"))
}

/// Whether following imports from `from`, one step or more, leads to `to`.
fn reaches(imports: &Imports, from: &Module, to: &Module) -> bool {
    let (mut open, mut seen) = (vec![from], BTreeSet::new());
    while let Some(module) = open.pop() {
        for next in imports.get(module).into_iter().flat_map(BTreeMap::keys) {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}

fn imports() -> Imports {
    let mut imports = Imports::new();
    let mut open = vec![source()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let location = location(&path);
            let [layer, name, ..] = &location[..] else { continue };
            let module = (layer.clone(), name.clone());
            let Ok(file) = syn::parse_file(&fs::read_to_string(&path).unwrap()) else { continue };
            let known = imports.entry(module.clone()).or_default();
            for other in imports_of(&file, &location) {
                if other != module {
                    known.insert(other, path.clone());
                }
            }
        }
    }
    assert!(imports.len() > LAYERS.len(), "no source was read");
    imports
}

/// The module path of a file: `src/commerce/orders/mod.rs` is `[commerce, orders]`.
fn location(path: &Path) -> Vec<String> {
    let relative = path.strip_prefix(source()).unwrap().with_extension("");
    let mut segments: Vec<String> =
        relative.iter().map(|segment| segment.to_str().unwrap().to_owned()).collect();
    if segments.last().is_some_and(|last| last == "mod" || last == "lib") {
        segments.pop();
    }
    segments
}

fn imports_of(file: &syn::File, location: &[String]) -> BTreeSet<Module> {
    let mut finder = Finder { location: location.to_vec(), found: BTreeSet::new() };
    finder.visit_file(file);
    finder.found
}

/// Collects the modules that paths lead to.
struct Finder {
    /// The module whose items are visited.
    location: Vec<String>,
    found: BTreeSet<Module>,
}

impl Finder {
    fn add(&mut self, path: &[String]) {
        let mut segments = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super" | "self") => self.location.clone(),
            _ => return,
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(segments.pop()),
                name => segments.push(name.to_owned()),
            }
        }
        if let [layer, name, ..] = &segments[..] {
            self.found.insert((layer.clone(), name.clone()));
        }
    }

    fn add_use(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.add_use(&step.tree, path);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.add_use(item, path)),
            UseTree::Name(name) => self.add(&[&path[..], &[name.ident.to_string()]].concat()),
            UseTree::Rename(renamed) => self.add(&[&path[..], &[renamed.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.add(path),
        }
    }
}

impl Visit<'_> for Finder {
    fn visit_item_mod(&mut self, module: &ItemMod) {
        self.location.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.location.pop();
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        self.add_use(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }
}
