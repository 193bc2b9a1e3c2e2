//! Owns what Cargo says about this checkout: its root, its target folder and its guest crates.
//!
//! It must not know how anything is built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{CrateType, Metadata, MetadataCommand, Package};

/// The checkout, as `cargo metadata` describes it.
pub struct Workspace {
    pub root: PathBuf,
    /// Honours CARGO_TARGET_DIR, because Cargo does.
    pub target: PathBuf,
    metadata: Metadata,
}

/// A crate that becomes a component.
pub struct GuestCrate {
    /// The name of its folder, which is the name of the file that comes out.
    pub name: String,
    pub package: String,
    /// The file name that Cargo gives the component.
    pub artifact: String,
}

impl Workspace {
    /// The workspace around the current folder.
    pub fn find() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("cargo metadata failed: run this inside the checkout")?;
        Ok(Self {
            root: metadata.workspace_root.clone().into(),
            target: metadata.target_directory.clone().into(),
            metadata,
        })
    }

    /// The member crates that lie directly in `folder` (relative to the root), by name.
    pub fn guest_crates(&self, folder: &str) -> Result<Vec<GuestCrate>> {
        let folder = self.root.join(folder);
        let mut crates = Vec::new();
        for package in self.metadata.workspace_packages() {
            let crate_dir = package.manifest_path.parent().map(|dir| dir.as_std_path());
            let Some(crate_dir) = crate_dir.filter(|dir| dir.parent() == Some(&folder)) else {
                continue;
            };
            crates.push(guest_crate(package, crate_dir)?);
        }
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(crates)
    }

    /// The built host.
    pub fn host_binary(&self) -> PathBuf {
        self.binary("modelhost")
    }

    /// A built program of this name.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.target.join("release").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Where logs of long steps go.
    pub fn logs(&self) -> PathBuf {
        self.target.join("xtask-logs")
    }
}

fn guest_crate(package: &Package, crate_dir: &Path) -> Result<GuestCrate> {
    let name = crate_dir.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} has no usable name", crate_dir.display()))?;
    let target = package.targets.iter().find(|t| t.crate_types.contains(&CrateType::CDyLib));
    ensure!(
        target.is_some(),
        "{} cannot become a component: its Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`",
        crate_dir.display()
    );
    let artifact = target.map(|t| format!("{}.wasm", t.name.replace('-', "_"))).unwrap_or_default();
    Ok(GuestCrate { name: name.to_owned(), package: package.name.to_string(), artifact })
}
