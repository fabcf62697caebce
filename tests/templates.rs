//! Templates beside ansible-core's: the same expressions give the same values.
//!
//! `fixtures/templates/answers.json` holds what ansible-core 2.19 gave; `ask-ansible.py` beside it asks again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferry::template::{FileStyle, Scope, Templater};
use serde_json::{Value, json};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/templates");

fn scope() -> Scope {
    let text = std::fs::read_to_string(format!("{FIXTURES}/vars.json")).unwrap();
    let vars: Value = serde_json::from_str(&text).unwrap();
    let mut scope = Scope::new();
    for (name, value) in vars.as_object().unwrap() {
        scope.written(name, value, None);
    }
    scope
}

/// What ferry does otherwise on purpose, each with the reason (also in docs/ansible.md).
const OTHERWISE: &[(&str, &str)] = &[
    ("{{ 1.5e300 * 1e10 }}", "JSON has no infinity: an error says so"),
    ("{% set x = [] %}{% set _ = x.append(1) %}{{ x }}", "a template cannot change a value"),
    ("{% set d = {} %}{% set _ = d.update({'a': 1}) %}{{ d }}", "a template cannot change a value"),
    (
        "{{ query('flattened', [1, [2, [3]]], 4) }}",
        "with_flattened is old and wide-spread: ferry keeps it without a collection",
    ),
    ("{{ 07 if false else 8 }} {{ 1_000 }} {{ 0x1f }} {{ 0b11 }} {{ 0o17 }}", "07 is a number here"),
    ("{{ 'x' | attr('upper') is defined }}", "a method is no value"),
    ("{{ {1: 'a', true: 'b'} | to_json }}", "1 and true are two keys"),
];

#[test]
fn expressions_give_what_ansible_gives() {
    let templater = Templater::new();
    let scope = scope();
    let answers = std::fs::read_to_string(format!("{FIXTURES}/answers.json")).unwrap();
    let (mut same, mut wrong) = (0, Vec::new());
    for line in answers.lines() {
        let line = line.replace("\"gives\": Infinity", "\"gives\": null");
        let answer: Value = serde_json::from_str(&line).unwrap();
        let text = answer["text"].as_str().unwrap();
        if OTHERWISE.iter().any(|(other, _)| *other == text) {
            continue;
        }
        let got = templater.render(text, None, &scope);
        match (answer.get("gives"), got) {
            (Some(expected), Ok(got)) if *expected == got => same += 1,
            (None, Err(failure)) => {
                assert!(!failure.what.is_empty(), "{text}");
                same += 1;
            }
            (Some(expected), Ok(got)) => wrong.push(format!("{text}\n   ansible: {expected}\n   ferry:   {got}")),
            (Some(expected), Err(failure)) => {
                wrong.push(format!("{text}\n   ansible: {expected}\n   ferry:   FAILS {}", failure.what));
            }
            (None, Ok(got)) => wrong.push(format!("{text}\n   ansible: FAILS {}\n   ferry:   {got}", answer["fails"])),
        }
    }
    assert!(wrong.is_empty(), "{same} alike, {} not:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same >= 300, "only {same} expressions were compared");
}

#[test]
fn what_is_otherwise_is_refused_and_never_ignored() {
    let templater = Templater::new();
    for (text, _) in OTHERWISE.iter().take(3) {
        assert!(templater.render(text, None, &scope()).is_err(), "{text}");
    }
}

#[test]
fn template_files_are_read_as_ansible_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("part.j2"), "part {{ n }}\n").unwrap();
    std::fs::write(folder.path().join("macros.j2"), "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}\n").unwrap();
    let templater = Templater::new();
    let cases = [
        ("a\n{% if n == 5 %}\nb\n{% endif %}\nc\n", "a\nb\nc\n"),
        ("#jinja2: trim_blocks: False\n{% if true %}\nb\n{% endif %}\n", "\nb\n"),
        // As many line feeds at the end as the file has, or as the value that stands last.
        ("{{ 'a\\n' }}\n", "a\n"),
        ("{{ 'a\\n\\n' }}\n", "a\n\n"),
        ("{{ {'a': [1]} | to_nice_yaml }}\n", "a:\n- 1\n"),
        ("x\n\n\n", "x\n\n\n"),
        ("{# nothing #}\n", ""),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}\n", "13\n"),
        ("#jinja2:lstrip_blocks:True\n  {% if true %}\nb\n  {% endif %}\n", "b\n"),
        ("#jinja2:variable_start_string:'[%', variable_end_string:'%]'\n[% n %] {{ n }}\n", "5 {{ n }}\n"),
        ("{% include 'part.j2' %}x\n", "part 5x\n"),
        ("{% from 'macros.j2' import twice %}{{ twice('ab') }}\n", "abab\n"),
        ("{{ 'a\\tb' }}\n", "a\tb\n"),
        ("{{ hosts | map(attribute='name') | join(' ') }}", "a b c"),
        ("no newline {{ n }}", "no newline 5"),
        ("{# gone #}\nx\n", "x\n"),
    ];
    for (text, expected) in cases {
        let got = templater.render_file(text, folder.path(), &FileStyle::default(), None, &scope()).unwrap();
        assert_eq!(got, expected, "{text:?}");
    }
    for (text, what) in
        [("#jinja2: nosuch: 1\nx", "nosuch"), ("{% include '../part.j2' %}", "part.j2"), ("{{ nosuch }}", "nosuch")]
    {
        let failure = templater.render_file(text, folder.path(), &FileStyle::default(), None, &scope()).unwrap_err();
        assert!(format!("{failure:?}").contains(what), "{failure:?}");
    }
}

#[test]
fn lookups_read_this_machine_and_are_never_rendered_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("files")).unwrap();
    std::fs::write(path("files/secret"), "{{ n }}\n\n").unwrap();
    std::fs::create_dir(path("templates")).unwrap();
    std::fs::write(path("templates/t.j2"), "n={{ n }} {{ more | default('-') }}\n").unwrap();
    let mut scope = scope();
    scope.data("playbook_dir", &json!(folder.path()));
    scope.written("secret_text", &json!("{{ lookup('file', 'secret') }}"), None);
    let templater = Templater::new();
    let cases = [
        ("{{ lookup('file', 'secret') }}", json!("{{ n }}")),
        ("{{ secret_text }}", json!("{{ n }}")),
        ("<{{ lookup('ansible.builtin.file', 'secret') }}>", json!("<{{ n }}>")),
        ("{{ lookup('file', 'secret', rstrip=false) }}", json!("{{ n }}\n\n")),
        ("{{ lookup('template', 't.j2') }}", json!("n=5 -\n")),
        ("{{ lookup('template', 't.j2', template_vars={'more': 'x'}) }}", json!("n=5 x\n")),
        ("{{ lookup('first_found', ['nosuch', 'secret']) | basename }}", json!("secret")),
        ("{{ query('fileglob', '*') | map('basename') | list }}", json!(["secret"])),
        ("{{ lookup('pipe', 'pwd') == playbook_dir }}", json!(true)),
    ];
    for (text, expected) in cases {
        assert_eq!(templater.render(text, None, &scope).unwrap(), expected, "{text}");
    }
    // A password is made once and kept for its owner alone.
    let file = path("pw");
    scope.data("pw", &json!(file));
    let one = templater.render("{{ lookup('password', pw ~ ' length=12 chars=digits') }}", None, &scope).unwrap();
    let two = templater.render("{{ lookup('password', pw ~ ' length=12 chars=digits') }}", None, &scope).unwrap();
    assert_eq!(one, two);
    assert!(one.as_str().is_some_and(|text| text.len() == 12 && text.chars().all(|c| c.is_ascii_digit())), "{one}");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let wrong = templater.render("{{ lookup('fle', 'x') }}", None, &scope).unwrap_err();
    assert!(wrong.what.contains("not built") && wrong.what.contains("file"), "{}", wrong.what);
}

#[test]
fn with_forms_are_lookups() {
    let templater = Templater::new();
    let ask = |name: &str, terms: &[Value]| templater.query(name, terms, None, &scope()).unwrap();
    assert_eq!(ask("items", &[json!([1, [2, 3]]), json!(4)]), [json!(1), json!([2, 3]), json!(4)]);
    assert_eq!(ask("dict", &[json!({"a": 1})]), [json!({"key": "a", "value": 1})]);
    assert_eq!(ask("sequence", &[json!("start=1 end=2")]), [json!("1"), json!("2")]);
    assert_eq!(ask("nested", &[json!([["a", "b"], [1]])]), [json!(["a", 1]), json!(["b", 1])]);
    assert_eq!(ask("together", &[json!([["a", "b"], [1]])]), [json!(["a", 1]), json!(["b", null])]);
    assert_eq!(ask("indexed_items", &[json!(["x"])]), [json!([0, "x"])]);
    assert_eq!(ask("flattened", &[json!([1, [2, [3]]])]), [json!(1), json!(2), json!(3)]);
    assert_eq!(ask("subelements", &[json!([[{"k": ["x"]}], "k"])]), [json!([{}, "x"])]);
}

#[test]
fn what_is_not_defined_is_an_error_wherever_it_is_used() {
    let templater = Templater::new();
    let scope = scope();
    for text in [
        "nosuch",
        "not nosuch",
        "nosuch == 1",
        "1 != nosuch",
        "nosuch and true",
        "nosuch in list",
        "nosuch > 1",
        "map.nokey == 1",
        "nosuch | length > 0",
        "nosuch is match('x')",
        "nosuch is none",
        "hosts[0].nokey == 'x'",
        "nosuch.a.b == 1",
        "nosuch ~ 'x' == 'x'",
        "(nosuch) == ''",
        "nosuch | bool",
        "name in nosuch",
        "nosuch is string",
    ] {
        assert!(templater.evaluate_condition(text, None, &scope).is_err(), "{text} was not refused");
    }
    for text in [
        "nosuch is undefined",
        "nosuch.a.b is not defined",
        "nosuch | default(true)",
        "map.nokey.deeper | default('x') == 'x'",
        "name is defined and name == 'prod'",
        "nosuch is defined or true",
        "nosuch is not defined or nosuch == 1",
        "'\\d' == '\\\\d'",
        "name is match('p\\w+')",
    ] {
        assert!(templater.evaluate_condition(text, None, &scope).unwrap(), "{text}");
    }
}

#[test]
fn omit_and_unsafe_texts() {
    let templater = Templater::new();
    let scope = scope();
    let value = json!({
        "a": "{{ nosuch | default(omit) }}", "b": ["{{ omit }}", 1], "c": {"__ansible_unsafe": "{{ n }}"}, "{{ name }}_key": "{{ n }}",
    });
    let got = templater.render_value(&value, None, &scope).unwrap();
    assert_eq!(got, json!({"b": [1], "c": "{{ n }}", "{{ name }}_key": 5}), "keys are no templates");
    let omit = templater.render("{{ nosuch | default(omit) }}", None, &scope).unwrap();
    assert!(ferry::template::is_omit(&omit), "{omit}");
    let mut scope = scope;
    scope.written("raw", &json!({"__ansible_unsafe": "{{ n }}"}), None);
    scope.written("outer", &json!("<{{ raw }}>"), None);
    assert_eq!(templater.render("{{ outer }}", None, &scope).unwrap(), json!("<{{ n }}>"));
}

/// Nothing that a template says may make ferry panic or run without end.
#[test]
fn hostile_templates_end() {
    let templater = Templater::new();
    let scope = scope();
    for text in [
        "{{ 'a' * 100000000 * 100000000 }}",
        "{{ range(100000) | product(range(100000)) | list }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'x'.ljust(9999999999) | length }}",
        "{{ [1] * 100000000 * 100000000 }}",
        "{{ 'a' | regex_replace('(a*)*b', '') }}",
        "{{ ('a' * 40) | regex_search('(a|aa)+$b') }}",
        "{{ [[[[[[]]]]]] | flatten | permutations(3) | list | length }}",
        "{{ ((((((((((((((((((((((((((((((((((((((((((((((((((1)))))))))))))))))))))))))))))))))))))))))))))))))) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{{ '\\' }}",
        "{{ \"",
        "{{ {{ }}",
        "{% raw %}",
        "{{ n | int(base=99) }}",
        "{{ '' | random }}",
        "{{ 'é'[0:1] ~ 'é' | truncate(1, true, '') }}",
        "{{ 99999999999999999999 ** 9999 }}",
        "{{ -170141183460469231731687303715884105728 | abs }}",
        "{{ 1 | batch(0) }}",
        "{{ 'x' | password_hash('sha512', 'é') }}",
    ] {
        let began = std::time::Instant::now();
        let _ = templater.render(text, None, &scope);
        assert!(began.elapsed().as_secs() < 10, "{text} took {:?}", began.elapsed());
    }
}
