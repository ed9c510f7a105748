//! The version that `--version` and `getinfo` show.

/// The release of LDK that speaks to peers; a test compares it to `Cargo.lock`.
const LDK: &str = "0.2.7";

/// For example `embedded-0.1.0 (LDK 0.2.7)`.
pub fn version() -> String {
    format!("embedded-{} (LDK {LDK})", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn names_the_ldk_in_cargo_lock() {
        // Beside the manifest in the packed crate, else in the workspace.
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let lock = ["Cargo.lock", "../../Cargo.lock"]
            .iter()
            .find_map(|path| std::fs::read_to_string(folder.join(path)).ok())
            .unwrap();
        let (_, after) = lock.split_once("name = \"lightning\"\n").unwrap();
        let line = after.lines().next().unwrap();
        assert_eq!(line, format!("version = \"{}\"", super::LDK));
    }
}
