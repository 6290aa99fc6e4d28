//! The import graph of a crate's modules, for the tests of its layers.
//!
//! Every `use` and every other path that begins with `crate`, `self` or `super` counts. Test
//! modules do not, nor do paths within macros.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, ItemFn, ItemImpl, ItemMod, ItemUse, UseTree};

/// The path of a module; empty for the crate itself.
pub type Module = Vec<String>;

/// Which child modules of one module import which of their siblings.
pub type Siblings = BTreeMap<String, BTreeSet<String>>;

/// Asserts the layers of a crate, from the bottom up. Its modules may import those of lower layers
/// only, and modules of one folder must not import each other in a circle.
pub fn assert_layers(manifest: &str, layers: &[&[&str]]) {
    let level = |name: &str| layers.iter().position(|layer| layer.contains(&name));
    let graph = siblings(manifest);
    for (module, imports) in &graph[&Module::new()] {
        let own = level(module).unwrap_or_else(|| panic!("{module} has no layer: give it one"));
        for import in imports {
            assert!(level(import).is_some_and(|level| level < own), "{module} may not import {import}");
        }
    }
    let circles = circles(graph);
    assert!(circles.is_empty(), "circles, and what imports them, by folder: {circles:#?}");
}

/// The circles of a graph: empty if there are none.
fn circles(mut graph: BTreeMap<Module, Siblings>) -> BTreeMap<Module, Siblings> {
    for imports in graph.values_mut() {
        // Removes modules without imports that are left, until there are none.
        while let Some(free) = imports.keys().find(|name| imports[*name].is_disjoint(&keys(imports))).cloned()
        {
            imports.remove(&free);
        }
    }
    graph.retain(|_, circles| !circles.is_empty());
    graph
}

fn keys(imports: &Siblings) -> BTreeSet<String> {
    imports.keys().cloned().collect()
}

/// For each module, the imports among its children. `manifest` is the folder of the crate.
pub fn siblings(manifest: &str) -> BTreeMap<Module, Siblings> {
    let root = Path::new(manifest).join("src");
    let files: BTreeMap<Module, PathBuf> =
        rust_files(&root).into_iter().filter_map(|file| Some((module_of(&root, &file)?, file))).collect();
    let mut graph: BTreeMap<Module, Siblings> = BTreeMap::new();
    for (module, file) in &files {
        if let Some((name, parent)) = module.split_last() {
            graph.entry(parent.to_vec()).or_default().entry(name.clone()).or_default();
        }
        for path in paths_in(module, file) {
            let common = module.iter().zip(&path).take_while(|(own, other)| own == other).count();
            if let (Some(own), true) =
                (module.get(common), files.contains_key(&path[..path.len().min(common + 1)]))
                && let Some(other) = path.get(common)
            {
                let imports = graph.entry(module[..common].to_vec()).or_default();
                imports.entry(own.clone()).or_default().insert(other.clone());
            }
        }
    }
    graph
}

pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// `None` for tests and for the binary.
fn module_of(root: &Path, file: &Path) -> Option<Module> {
    let path = file.strip_prefix(root).unwrap().with_extension("");
    let mut names: Module = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    match names.last()?.as_str() {
        "tests" | "main" => return None,
        "mod" | "lib" => drop(names.pop()),
        _ => {}
    }
    Some(names)
}

/// The paths that the file of `module` names, from the crate on.
fn paths_in(module: &Module, file: &Path) -> Vec<Module> {
    let syntax = syn::parse_file(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut paths = Paths { module, found: Vec::new() };
    paths.visit_file(&syntax);
    paths.found
}

struct Paths<'a> {
    module: &'a Module,
    found: Vec<Module>,
}

impl Paths<'_> {
    fn add(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let mut absolute = match first.as_str() {
            "crate" => Module::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len() - 1].to_vec(),
            _ => return,
        };
        for name in rest {
            if name == "super" {
                absolute.pop();
            } else {
                absolute.push(name.clone());
            }
        }
        self.found.push(absolute);
    }

    fn add_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            UseTree::Glob(_) => self.add(before),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.add_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&names);
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }
}

pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(module: &[&str], text: &str) -> Vec<String> {
        let module: Module = module.iter().map(|name| (*name).to_owned()).collect();
        let mut paths = Paths { module: &module, found: Vec::new() };
        paths.visit_file(&syn::parse_file(text).unwrap());
        paths.found.iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn imports_are_seen_in_groups_by_super_and_in_expressions() {
        let text = "
            use crate::core::{ids::UserId, money};
            use super::super::platform::dynamo;
            fn f() -> crate::edge::http::Reply { self::links::link() }
            #[cfg(test)]
            mod tests { use crate::files; }
        ";
        let expected = [
            "core::ids::UserId",
            "core::money",
            "platform::dynamo",
            "edge::http::Reply",
            "identity::users::links::link",
        ];
        assert_eq!(paths(&["identity", "users"], text), expected);
    }

    #[test]
    fn a_circle_is_found_and_a_chain_is_none() {
        let graph = |imports: &[(&str, &str)]| {
            let mut siblings = Siblings::new();
            for (from, to) in imports {
                siblings.entry((*to).to_owned()).or_default();
                siblings.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            }
            BTreeMap::from([(Module::new(), siblings)])
        };
        assert!(circles(graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
        assert!(!circles(graph(&[("a", "b"), ("b", "c"), ("c", "b")])).is_empty());
    }
}
