//! A template over fixed names: rendered or refused, never more than the limits allow.
#![no_main]
use ferry::template::{Scope, Templater};
use std::sync::OnceLock;
static TEMPLATER: OnceLock<Templater> = OnceLock::new();
libfuzzer_sys::fuzz_target!(|text: &str| {
    // Lookups read files and run commands: they are no business of a fuzzer.
    if text.contains("lookup") || text.contains("query") || text.contains("q(") {
        return;
    }
    let templater = TEMPLATER.get_or_init(Templater::new);
    let mut scope = Scope::new();
    scope.data("a", &serde_json::json!({"b": [1, 2.5, "three", null, true], "c": "{{ a }}"}));
    scope.data("n", &serde_json::json!(7));
    scope.written("w", &serde_json::json!("{{ n }}-{{ a.c }}"), None);
    let _ = templater.check(text, None);
    let _ = templater.render(text, None, &scope);
    let _ = templater.evaluate_condition(text, None, &scope);
});
