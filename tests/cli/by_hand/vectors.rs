//! Messages that other implementations wrote: all opened, and what they broke refused.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{KeyFile, refusal};

#[test]
fn the_messages_of_other_implementations_open_or_are_refused() {
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).expect("JSON");
    let mut keys: HashMap<[String; 3], KeyFile> = HashMap::new();
    let mut seen = [0; 2];
    for test in manifest["tests"].as_array().expect("tests") {
        let name = test["name"].as_str().expect("a name");
        let of = |field: &str| test[field].as_str().unwrap_or_default().to_owned();
        let id = [of("namespace"), of("key_name"), of("key")];
        let key = keys
            .entry(id)
            .or_insert_with_key(|[namespace, key_name, key]| {
                let hex = manifest["keys"][key]["hex"].as_str().expect("a key");
                KeyFile::with_text(&format!(
                    "namespace = \"{namespace}\"\nname = \"{key_name}\"\nkey = \"{hex}\"\n"
                ))
            });
        let required = test["required_context"].as_object();
        let required: Vec<String> = required
            .into_iter()
            .flatten()
            .map(|(k, v)| format!("{k}={}", v.as_str().expect("a string")))
            .collect();
        let pairs: Vec<&str> = required
            .iter()
            .flat_map(|pair| ["--context", pair])
            .collect();
        let message = read(&of("ciphertext"));
        if test["expect"] == "reject" {
            seen[1] += 1;
            refusal(&key.decrypt(&pairs, &message));
            continue;
        }
        seen[0] += 1;
        let opened = key.decrypt(&pairs, &message).expect_success();
        assert_eq!(opened.stdout, read(&of("plaintext")), "{name}");
        if !pairs.is_empty() {
            // What is not stored must be handed in.
            refusal(&key.decrypt(&[], &message));
        }
    }
    assert!(seen[0] > 50 && seen[1] > 3, "{seen:?}");
}

fn read(name: &str) -> Vec<u8> {
    let vectors: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    fs::read(vectors.join(name)).expect("it is there")
}
