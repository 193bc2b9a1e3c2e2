//! Every public item has an example in its documentation. That each one compiles is `cargo test --doc`'s part.

use std::path::{Path, PathBuf};
use std::{fs, io};

use syn::{Attribute, Expr, ImplItem, Item, Lit, Meta, TraitItem, Visibility};

#[test]
fn every_public_item_has_a_doc_example() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = Vec::new();
    for path in rust_files(&source).unwrap() {
        let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
        file.items.iter().for_each(|item| collect(item, &mut seen));
    }
    // A reader that finds nothing would find nothing wrong.
    assert!(seen.len() > 60, "only {} items were found", seen.len());
    for name in [
        "Tensor",
        "as_slice",
        "Plugin",
        "predict",
        "export",
        "embed_graph",
        "embed_sample",
        "ANY",
        "DATATYPE",
    ] {
        assert!(seen.iter().any(|item| item.name == name), "{name} was not found");
    }
    let without: Vec<&str> =
        seen.iter().filter(|item| !item.example).map(|item| item.name.as_str()).collect();
    assert_eq!(without, Vec::<&str>::new(), "public items without an example");
}

struct Documented {
    name: String,
    example: bool,
}

fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Notes a module's public items. Modules in the same file hold tests or what is sealed or generated.
fn collect(item: &Item, seen: &mut Vec<Documented>) {
    let public = |visibility: &Visibility| matches!(visibility, Visibility::Public(_));
    match item {
        Item::Fn(item) if public(&item.vis) => note(&item.sig.ident, &item.attrs, seen),
        Item::Struct(item) if public(&item.vis) => note(&item.ident, &item.attrs, seen),
        Item::Enum(item) if public(&item.vis) => note(&item.ident, &item.attrs, seen),
        Item::Type(item) if public(&item.vis) => note(&item.ident, &item.attrs, seen),
        Item::Const(item) if public(&item.vis) => note(&item.ident, &item.attrs, seen),
        Item::Trait(item) if public(&item.vis) => {
            note(&item.ident, &item.attrs, seen);
            for member in &item.items {
                match member {
                    TraitItem::Fn(member) => note(&member.sig.ident, &member.attrs, seen),
                    TraitItem::Const(member) => note(&member.ident, &member.attrs, seen),
                    _ => {}
                }
            }
        }
        Item::Impl(item) if item.trait_.is_none() => {
            for member in &item.items {
                match member {
                    ImplItem::Fn(member) if public(&member.vis) => {
                        note(&member.sig.ident, &member.attrs, seen)
                    }
                    ImplItem::Const(member) if public(&member.vis) => {
                        note(&member.ident, &member.attrs, seen)
                    }
                    _ => {}
                }
            }
        }
        Item::Macro(item) => {
            if let Some(name) = &item.ident
                && item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"))
            {
                note(name, &item.attrs, seen);
            }
        }
        _ => {}
    }
}

fn note(name: &syn::Ident, attributes: &[Attribute], seen: &mut Vec<Documented>) {
    let example = attributes.iter().filter_map(doc_line).any(|line| line.trim_start().starts_with("```"));
    seen.push(Documented { name: name.to_string(), example });
}

fn doc_line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let Expr::Lit(literal) = &pair.value else { return None };
    match &literal.lit {
        Lit::Str(line) if pair.path.is_ident("doc") => Some(line.value()),
        _ => None,
    }
}
