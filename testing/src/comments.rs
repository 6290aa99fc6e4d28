//! Rules for comments that no lint holds: what must be documented, and how wide a comment may be.

use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemImpl, ItemTrait, TraitItem, Visibility};

use crate::imports::{is_test, rust_files};

/// Columns of a comment, its indentation included.
pub const MAX_COLUMNS: usize = 100;

/// Asserts that each public item of a crate has a doc comment, and each module a head. Fields and
/// variants may go without: a name that says everything needs no comment. `manifest` is the folder
/// of the crate.
pub fn assert_documented(manifest: &str) {
    let mut missing = Vec::new();
    for file in rust_files(&Path::new(manifest).join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let is_tests = file.file_stem().is_some_and(|stem| stem.to_str().unwrap().contains("tests"));
        if !is_tests {
            missing.extend(undocumented(&text).into_iter().map(|name| format!("{}: {name}", file.display())));
        }
    }
    assert!(missing.is_empty(), "these need a doc comment: {missing:#?}");
}

/// Asserts that comments in the Rust files under `folder` end at [`MAX_COLUMNS`].
pub fn assert_width(folder: &Path) {
    let mut wide = Vec::new();
    for file in rust_files(folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        wide.extend(too_wide(&text).into_iter().map(|line| format!("{}:{line}", file.display())));
    }
    assert!(wide.is_empty(), "these comments are wider than {MAX_COLUMNS} columns: {wide:#?}");
}

/// The numbers of the lines that hold nothing but a comment and are too wide. Tables, code, link
/// definitions and words longer than a line cannot be wrapped.
fn too_wide(text: &str) -> Vec<usize> {
    let mut in_code = false;
    let mut wide = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            in_code = false;
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim_start();
        in_code ^= comment.starts_with("```");
        let is_link = comment.starts_with('[') && comment.contains("]: ");
        let can_wrap = !in_code && !is_link && !comment.starts_with('|') && comment.contains(' ');
        if can_wrap && line.chars().count() > MAX_COLUMNS {
            wide.push(index + 1);
        }
    }
    wide
}

/// The public items of a file that have no doc comment.
fn undocumented(text: &str) -> Vec<String> {
    let file = syn::parse_file(text).unwrap();
    let mut visitor = Undocumented::default();
    visitor.require(&"the module", &file.attrs);
    visitor.visit_file(&file);
    visitor.names
}

#[derive(Default)]
struct Undocumented {
    names: Vec<String>,
}

impl Undocumented {
    fn require(&mut self, name: &dyn ToString, attributes: &[Attribute]) {
        if !attributes.iter().any(|attribute| attribute.path().is_ident("doc")) {
            self.names.push(name.to_string());
        }
    }

    fn require_if_public(&mut self, name: &dyn ToString, visibility: &Visibility, attributes: &[Attribute]) {
        if matches!(visibility, Visibility::Public(_)) {
            self.require(name, attributes);
        }
    }
}

impl<'ast> Visit<'ast> for Undocumented {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => return,
            // A module in a file of its own has its comment there.
            Item::Mod(module) if module.content.is_some() => {
                self.require_if_public(&module.ident, &module.vis, &module.attrs);
            }
            Item::Fn(item) => self.require_if_public(&item.sig.ident, &item.vis, &item.attrs),
            Item::Struct(item) => self.require_if_public(&item.ident, &item.vis, &item.attrs),
            Item::Enum(item) => self.require_if_public(&item.ident, &item.vis, &item.attrs),
            Item::Trait(item) => self.require_if_public(&item.ident, &item.vis, &item.attrs),
            Item::Type(item) => self.require_if_public(&item.ident, &item.vis, &item.attrs),
            Item::Const(item) => self.require_if_public(&item.ident, &item.vis, &item.attrs),
            Item::Static(item) => self.require_if_public(&item.ident, &item.vis, &item.attrs),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        // The methods of a trait are documented where the trait is.
        if item.trait_.is_none() && !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, method: &'ast ImplItemFn) {
        self.require_if_public(&method.sig.ident, &method.vis, &method.attrs);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        if matches!(item.vis, Visibility::Public(_)) {
            for member in &item.items {
                if let TraitItem::Fn(method) = member {
                    self.require(&method.sig.ident, &method.attrs);
                }
            }
        }
    }

    // Bodies declare nothing public.
    fn visit_block(&mut self, _: &'ast syn::Block) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_items_need_a_comment_and_fields_variants_and_tests_do_not() {
        let text = "
            pub fn bare() {}
            fn private() {}
            pub(crate) fn inner() {}
            /// Has one.
            pub struct Named { pub field: u8 }
            pub enum Kind { Variant }
            impl Named { pub fn method(&self) {} fn own(&self) {} }
            impl Clone for Named { fn clone(&self) -> Self { Named } }
            /// Has one.
            pub trait Port { fn call(&self); }
            #[cfg(test)]
            mod tests { pub fn helper() {} }
        ";
        assert_eq!(undocumented(text), ["the module", "bare", "Kind", "method", "call"]);
    }

    #[test]
    fn wide_comments_are_found_and_what_cannot_be_wrapped_is_not() {
        let word = "x".repeat(60);
        let text = format!(
            "// {word} {word}\nlet code = \"{word} {word}\";\n    //! short\n//! | {word} | {word} |\n\
             /// {word}{word}\n/// ```\n/// {word} {word}\n/// ```\n/// {word} {word}\n"
        );
        assert_eq!(too_wide(&text), [1, 9]);
    }
}
