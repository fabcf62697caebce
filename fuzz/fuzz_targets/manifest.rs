//! A manifest: read or refused; what was read is written and read again to the same.
#![no_main]
use ferry::catalog::Manifest;
libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(manifest) = Manifest::parse("manifest.json", text) {
        let written = serde_json::to_string(&manifest).expect("a manifest is JSON");
        let again = Manifest::parse("manifest.json", &written).expect("what was written is read");
        assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
    }
});
