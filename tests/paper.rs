//! Inventories, playbooks, templates and settings, from files: what is read, and how what is wrong is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ferry::failure::{Failure, Kind};
use ferry::inventory::Inventory;
use ferry::inventory::vars::{ConnectionKind, HostVars};
use ferry::name::HostName;
use ferry::playbook::{ArgKind, ArgSpec, ModuleSpec, ModuleTable, Playbook, Step};
use ferry::secret::ExposeSecret as _;
use ferry::settings::{Flags, Settings, check_catalog_folder};
use serde_json::{Map, Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/paper")
}

struct Case {
    name: String,
    line: usize,
    column: usize,
    fragments: Vec<String>,
    text: String,
}

fn cases(file: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(fixtures().join("bad").join(file)).unwrap();
    let mut out: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("=== ") {
            let parts: Vec<&str> = head.splitn(3, " | ").collect();
            let (at_line, at_column) = parts[1].split_once(':').unwrap();
            out.push(Case {
                name: parts[0].to_owned(),
                line: at_line.parse().unwrap(),
                column: at_column.parse().unwrap(),
                fragments: parts[2].split(" & ").map(str::to_owned).collect(),
                text: String::new(),
            });
        } else if let Some(case) = out.last_mut() {
            case.text.push_str(line);
            case.text.push('\n');
        }
    }
    out
}

/// All that an operator would read of a failure.
fn told(failure: &Failure) -> String {
    let mut out = String::new();
    for failure in std::iter::once(failure).chain(&failure.more) {
        let part = [Some(&failure.what), failure.seen.as_ref(), failure.why.as_ref(), failure.mend.as_ref()];
        out.extend(part.into_iter().flatten().map(|text| format!("{text}\n")));
    }
    out
}

/// Runs every case of `file` and compares place and words. All misses are told at once.
fn check(file: &str, read: impl Fn(&Case) -> Result<(), Failure>) -> usize {
    let cases = cases(file);
    let mut missed = Vec::new();
    for case in &cases {
        let Err(failure) = read(case) else {
            missed.push(format!("{}: was taken as good", case.name));
            continue;
        };
        let said = told(&failure);
        let place = failure.place.clone();
        let at = place.map(|place| (place.line, place.column));
        if failure.kind != Kind::CouldNotStart {
            missed.push(format!("{}: kind {:?}", case.name, failure.kind));
        }
        if at != Some((case.line, case.column)) {
            missed.push(format!("{}: at {at:?}, not {}:{}; {said}", case.name, case.line, case.column));
        }
        for fragment in &case.fragments {
            if !said.contains(fragment.as_str()) {
                missed.push(format!("{}: {fragment:?} is not said in: {said}", case.name));
            }
        }
        let hidden = case.name.contains("password");
        if failure.snippet.is_none() != hidden {
            missed.push(format!("{}: snippet {:?}", case.name, failure.snippet));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    cases.len()
}

fn inventory_of(text: &str) -> Result<Inventory, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts.yml");
    std::fs::write(&path, text).unwrap();
    Inventory::load(&[path])
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn names(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn bad_inventories() {
    assert!(check("inventory.cases", |case| inventory_of(&case.text).map(drop)) >= 50);
}

#[test]
fn bad_playbooks() {
    let table = modules();
    assert!(check("playbook.cases", |case| Playbook::parse("site.yml", &case.text, &table).map(drop)) >= 40);
}

#[test]
fn bad_settings() {
    let count = check("settings.cases", |case| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ferry.toml"), &case.text).unwrap();
        let env = |name: &str| (name == "HOME").then(|| folder.path().display().to_string());
        Settings::resolve(&Flags::default(), &env, folder.path()).map(drop)
    });
    assert!(count >= 15);
}

#[test]
fn several_errors_are_told_at_once() {
    let failure = inventory_of(
        "prod:\n  hosst: {}\n  vars: { pce_backup_timeout: 60 }\n  hosts:\n    a: { pce_wrok_dir: /x }\n    b: { ansible_port: no }\n",
    )
    .unwrap_err();
    let lines: Vec<usize> =
        std::iter::once(&failure).chain(&failure.more).filter_map(|one| one.place.as_ref()).map(|p| p.line).collect();
    assert_eq!(lines, [2, 3, 5, 6]);
    let failure = Playbook::parse(
        "p.yml",
        "- hosts: all\n  tasks:\n    - comand: x\n    - command: y\n      wen: z\n- taks: []\n  hosts: a\n",
        &modules(),
    )
    .unwrap_err();
    let lines: Vec<usize> =
        std::iter::once(&failure).chain(&failure.more).filter_map(|one| one.place.as_ref()).map(|p| p.line).collect();
    assert_eq!(lines, [3, 5, 6]);
}

/// Pattern, and the hosts it means. What Ansible gives for the same inventory, written down by hand.
const PATTERNS: &[(&str, &str)] = &[
    (
        "all",
        "lonely prod-1 prod-2 prod-3 prod-amv-1 prod-nfs dr-1 dr-2 dr-3 dr-nfs webmaster web01.east.example \
         web02.east.example web03.east.example web1.west.example web2.west.example",
    ),
    (
        "*",
        "lonely prod-1 prod-2 prod-3 prod-amv-1 prod-nfs dr-1 dr-2 dr-3 dr-nfs webmaster web01.east.example \
         web02.east.example web03.east.example web1.west.example web2.west.example",
    ),
    ("prod", "prod-1 prod-2 prod-3 prod-amv-1 prod-nfs"),
    ("prod:&mains", "prod-1 prod-2 prod-3"),
    ("prod,&mains", "prod-1 prod-2 prod-3"),
    ("&mains:prod", "prod-1 prod-2 prod-3"),
    ("prod:!mains", "prod-amv-1 prod-nfs"),
    ("!mains:prod", "prod-amv-1 prod-nfs"),
    ("prod:dr", "prod-1 prod-2 prod-3 prod-amv-1 prod-nfs dr-1 dr-2 dr-3 dr-nfs"),
    ("prod,dr", "prod-1 prod-2 prod-3 prod-amv-1 prod-nfs dr-1 dr-2 dr-3 dr-nfs"),
    ("dr , prod-1", "dr-1 dr-2 dr-3 dr-nfs prod-1"),
    (
        "!prod",
        "lonely dr-1 dr-2 dr-3 dr-nfs webmaster web01.east.example web02.east.example web03.east.example \
         web1.west.example web2.west.example",
    ),
    ("&mains", "prod-1 prod-2 prod-3 dr-1 dr-2 dr-3"),
    ("prod[0]", "prod-1"),
    ("prod[-1]", "prod-nfs"),
    ("prod[1:2]", "prod-2 prod-3"),
    ("prod[3:]", "prod-amv-1 prod-nfs"),
    ("prod[0:0]", "prod-1"),
    ("prod[3:99]", "prod-amv-1 prod-nfs"),
    ("mains[2:3]", "prod-3 dr-1"),
    ("prod-?", "prod-1 prod-2 prod-3"),
    ("dr-*", "dr-1 dr-2 dr-3 dr-nfs"),
    ("*nfs", "prod-nfs dr-nfs"),
    ("~prod-\\d", "prod-1 prod-2 prod-3"),
    ("~(prod|dr)-[12]$", "prod-1 prod-2 dr-1 dr-2"),
    ("~rod", ""),
    ("prod-1:dr-1", "prod-1 dr-1"),
    ("dr:prod:&mains", "dr-1 dr-2 dr-3 prod-1 prod-2 prod-3"),
    ("prod:&mains:!prod-2", "prod-1 prod-3"),
    ("web", "webmaster web01.east.example web02.east.example web03.east.example web1.west.example web2.west.example"),
    ("web_*", "web01.east.example web02.east.example web03.east.example web1.west.example web2.west.example"),
    ("web0[12].east.example", "web01.east.example web02.east.example"),
    ("web0[!1].east.example", "web02.east.example web03.east.example"),
    ("*.example", "web01.east.example web02.east.example web03.east.example web1.west.example web2.west.example"),
    ("web*.west.example[0]", "web1.west.example"),
    ("ungrouped", "lonely"),
    ("lonely", "lonely"),
    ("localhost", "localhost"),
    ("127.0.0.1", "127.0.0.1"),
    ("::1", "::1"),
    ("prod-1:&prod", "prod-1"),
    ("all:!web:!mains", "lonely prod-amv-1 prod-nfs dr-nfs"),
    ("web[0]", "webmaster"),
    ("web[-1]", "web2.west.example"),
    ("!web_east:&web", "webmaster web1.west.example web2.west.example"),
    ("prod-1,prod-1,prod", "prod-1 prod-2 prod-3 prod-amv-1 prod-nfs"),
    ("*[0]", "lonely"),
    ("prod:&mains[0]", "prod-1"),
    ("web:!~web\\d", "webmaster"),
    ("prod:!zz*", "prod-1 prod-2 prod-3 prod-amv-1 prod-nfs"),
    // What matches nobody is an error, not a warning.
    ("hollow", ""),
    ("mains:&prod:&dr", ""),
    ("&amv:!prod", ""),
    ("prod:!prod-*", ""),
    ("nope", ""),
    ("prod:nope", ""),
    ("prod:!nope", ""),
    ("prod:&nope", ""),
    ("prod-[1:2]", ""),
    ("prod[7]", ""),
    ("prod[-7]", ""),
    ("prod[9:]", ""),
    ("web01.east.example:22", ""),
    ("web.east.example", ""),
];

#[test]
fn patterns() {
    let inventory = Inventory::load(&[fixtures().join("patterns/hosts.yml")]).unwrap();
    assert!(PATTERNS.len() >= 40);
    let mut missed = Vec::new();
    for (pattern, expected) in PATTERNS {
        match inventory.select(pattern) {
            Ok(hosts) if names(&hosts) == *expected => {}
            Ok(hosts) => missed.push(format!("{pattern}: {}, not {expected}", names(&hosts))),
            Err(failure) if expected.is_empty() && failure.kind == Kind::NoHost => {}
            Err(failure) => missed.push(format!("{pattern}: {failure:?}")),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_wrong_pattern_says_what_was_meant() {
    let inventory = Inventory::load(&[fixtures().join("patterns/hosts.yml")]).unwrap();
    let mend = |pattern: &str| inventory.select(pattern).unwrap_err().mend.unwrap_or_default();
    assert!(mend("prdo").contains("prod"), "{}", mend("prdo"));
    assert!(mend("prod:&manis").contains("mains"));
    assert!(mend("prod-[1:3]").contains("by position"));
    for (pattern, kind) in [("", Kind::Usage), ("~(", Kind::Usage), ("prod[1-2]", Kind::Usage), ("x", Kind::NoHost)] {
        assert_eq!(inventory.select(pattern).unwrap_err().kind, kind, "{pattern}");
    }
    assert_eq!(inventory.select("nope:nada").unwrap_err().more.len(), 1);
}

#[test]
fn limits() {
    let inventory = Inventory::load(&[fixtures().join("patterns/hosts.yml")]).unwrap();
    let all = inventory.select("prod").unwrap();
    assert_eq!(names(&inventory.limit(&all, "mains:!prod-2").unwrap()), "prod-1 prod-3");
    assert_eq!(inventory.limit(&all, "").unwrap(), all);
    assert_eq!(inventory.limit(&all, ",,").unwrap(), all);
    assert_eq!(inventory.limit(&all, "dr").unwrap_err().kind, Kind::NoHost);
    assert_eq!(inventory.limit(&all, "nope").unwrap_err().kind, Kind::NoHost);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("retry");
    std::fs::write(&file, "prod-2\nprod-nfs\n\n").unwrap();
    assert_eq!(names(&inventory.limit(&all, &format!("@{}", file.display())).unwrap()), "prod-2 prod-nfs");
    assert_eq!(inventory.limit(&all, "@/no/such/file").unwrap_err().kind, Kind::CouldNotStart);
}

#[test]
fn the_inventory_of_the_contract() {
    let inventory = Inventory::load(&[fixtures().join("product.yml")]).unwrap();
    assert_eq!(names(&inventory.select("prod:&mains").unwrap()), "prod-1 prod-2 prod-3");
    assert_eq!(names(&inventory.select("dr:&mains").unwrap()), "dr-1 dr-2 dr-3");
    assert_eq!(names(&inventory.select("nfs:&dr").unwrap()), "dr-nfs");
    let groups: Vec<&str> = inventory.groups().map(|group| group.as_str()).collect();
    assert_eq!(groups, ["all", "ungrouped", "prod", "dr", "mains", "amv", "nfs"]);
    let vars = inventory.vars(&host("prod-1"));
    assert_eq!(vars.get("group_names"), Some(&json!(["mains", "prod"])));
    let typed = HostVars::read(&inventory, &host("prod-1"), &Map::new()).unwrap();
    assert_eq!(typed.connection.user.as_deref(), Some("ops"));
    assert_eq!(typed.connection.address, "prod-1");
    assert_eq!(typed.connection.ssh_args.as_deref(), Some("-J ops@bastion.example"));
    assert_eq!(typed.connection.kind, ConnectionKind::Ssh);
    assert_eq!(typed.becoming.wanted, Some(true));
    assert!(typed.pce.amv);
    assert_eq!(typed.pce.amv_backup_dir.as_deref(), Some(Path::new("/data/amv-backup")));
    assert_eq!(typed.pce.cluster_name.as_deref(), Some("pce-prod"));
    assert_eq!(typed.pce.amv_every.as_secs(), 7 * 86_400);
    assert_eq!(typed.pce.gravity, Path::new("/usr/bin/gravity"));
    let nfs = HostVars::read(&inventory, &host("dr-nfs"), &Map::new()).unwrap();
    assert_eq!(nfs.pce.nfs_export.as_deref(), Some(Path::new("/srv/nfs")));
    assert!(!nfs.pce.amv);
    let place = inventory.place_of(&host("prod-2"), "pce_amv_backup_dir").unwrap();
    assert_eq!((place.line, place.column > 1), (5, true));
    // Its ranges stand unquoted in a flow mapping, which is no YAML: read all the same, with a word about it.
    assert_eq!(inventory.warnings().len(), 1);
    assert!(inventory.warnings()[0].contains("Ansible"), "{:?}", inventory.warnings());
}

#[test]
fn the_shipped_example() {
    let inventory = Inventory::load(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("inventory/example.yml")]).unwrap();
    assert!(inventory.warnings().is_empty(), "{:?}", inventory.warnings());
    assert_eq!(names(&inventory.select("prod:&mains").unwrap()), "prod-1 prod-2 prod-3");
    let hosts = inventory.select("all").unwrap();
    assert_eq!(HostVars::read_all(&inventory, &hosts, &Map::new()).unwrap().len(), hosts.len());
}

#[test]
fn extra_variables_are_checked() {
    let extra = |name: &str, value: Value| {
        let mut map = Map::new();
        map.insert(name.to_owned(), value);
        ferry::inventory::vars::check_extra(&map)
    };
    assert!(extra("anything", json!(1)).is_ok());
    assert!(extra("pce_amv", json!("true")).is_ok());
    assert!(extra("pce_amw", json!(true)).unwrap_err().mend.unwrap().contains("pce_amv"));
    assert!(extra("ansible_port", json!("x")).is_err());
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Which source wins for host h of the groups all > top > leaf, and beside them.
#[test]
fn variable_precedence() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(
        at,
        &[
            (
                "inv/10-hosts.yml",
                "all:\n  vars: { a: all, b: all, c: all, d: all, e: all, f: all, g: all, h: all, i: all, j: all, k: all }\n\
                 top:\n  vars: { b: top, c: top, k: top }\n  children: { leaf: }\n\
                 leaf:\n  vars: { c: leaf, d: leaf, k: leaf }\n  hosts: { h: { i: host, j: host } }\n\
                 zeta:\n  vars: { s: zeta, p: zeta }\n  hosts: { h: }\n\
                 beta:\n  vars: { s: beta, p: beta, ansible_group_priority: 10 }\n  hosts: { h: }\n",
            ),
            ("inv/20-later.yml", "leaf:\n  vars: { d: later }\n"),
            ("inv/.hidden.yml", "broken: ["),
            ("inv/notes.md", "broken: ["),
            ("inv/old.bak", "broken: ["),
            ("inv/group_vars/all.yml", "e: gv_all\nf: gv_all\nk: gv_all\ng: gv_all\n"),
            ("inv/group_vars/top/main.yml", "f: gv_top\n"),
            ("inv/group_vars/top/zz", "f2: gv_top_zz\n"),
            ("inv/group_vars/top/.hidden", "broken: ["),
            ("inv/group_vars/leaf", "g: gv_leaf\n"),
            ("inv/group_vars/leaf.yml", "g: never read, since the first file that is there counts\n"),
            ("inv/group_vars/laef.yml", "g: misspelt\n"),
            ("inv/host_vars/h.json", "{\"j\": \"hv\"}"),
            ("play/group_vars/all.yml", "e: play_all\n"),
            ("play/host_vars/h.yml", "j: play_hv\n"),
        ],
    );
    let inventory = Inventory::load(&[at.join("inv")]).unwrap();
    let vars = inventory.vars(&host("h"));
    let is = |name: &str| vars.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let expected = [
        ("a", "all"),
        ("b", "top"),
        ("c", "leaf"),
        ("d", "later"),
        ("e", "gv_all"),
        ("f", "gv_top"),
        ("f2", "gv_top_zz"),
        ("g", "gv_leaf"),
        ("h", "all"),
        ("i", "host"),
        ("j", "hv"),
        // group_vars/all is above every group's variables in the inventory itself.
        ("k", "gv_all"),
        // zeta comes after beta by name, but beta has the higher priority.
        ("s", "beta"),
        ("p", "beta"),
    ];
    for (name, value) in expected {
        assert_eq!(is(name), value, "{name}");
    }
    assert!(!vars.contains_key("ansible_group_priority"));
    assert_eq!(vars.get("inventory_hostname"), Some(&json!("h")));
    assert_eq!(vars.get("group_names"), Some(&json!(["beta", "leaf", "top", "zeta"])));
    assert_eq!(
        inventory.place_of(&host("h"), "j").unwrap().file,
        at.join("inv/host_vars/h.json").display().to_string()
    );
    assert_eq!(inventory.warnings().len(), 2, "{:?}", inventory.warnings());
    assert!(inventory.warnings().iter().any(|line| line.contains("laef.yml") && line.contains("did you mean leaf?")));

    let inventory = Inventory::load_beside(&[at.join("inv")], Some(&at.join("play"))).unwrap();
    let vars = inventory.vars(&host("h"));
    assert_eq!(vars.get("e"), Some(&json!("play_all")));
    assert_eq!(vars.get("j"), Some(&json!("play_hv")));
}

#[test]
fn sources() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(
        at,
        &[
            ("a.yml", "all: { hosts: { h: { x: 1 } } }"),
            ("b.json", "{\"all\": {\"hosts\": {\"h\": {\"x\": 2}, \"i\": null}}}"),
            ("ini", "[prod]\nprod-1 ansible_user=ops\n"),
            ("hosts.ini", "prod-1\n"),
            ("script", "#!/bin/sh\necho {}\n"),
            ("vaulted.yml", "$ANSIBLE_VAULT;1.1;AES256\n3132\n"),
            ("latin1.yml", "all:\n"),
        ],
    );
    std::fs::write(at.join("latin1.yml"), b"all:\n  vars: { x: \"caf\xe9\" }\n").unwrap();
    let both = Inventory::load(&[at.join("a.yml"), at.join("b.json")]).unwrap();
    assert_eq!(both.vars(&host("h")).get("x"), Some(&json!(2)));
    let list = Inventory::load(&["n[1:2]:2222,other".into()]).unwrap();
    assert_eq!(names(&list.select("all").unwrap()), "n1 n2 other");
    assert_eq!(list.vars(&host("n2")).get("ansible_port"), Some(&json!(2222)));
    assert_eq!(names(&Inventory::load(&["solo,".into()]).unwrap().select("all").unwrap()), "solo");

    let ini = Inventory::load(&[at.join("ini"), at.join("hosts.ini")]).unwrap();
    assert_eq!(names(&ini.select("all").unwrap()), "prod-1");
    assert_eq!(ini.vars(&host("prod-1")).get("ansible_user"), Some(&json!("ops")));
    let refused = [
        ("script", "a program", Some((1, 1))),
        ("vaulted.yml", "no whole vault file", Some((1, 1))),
        ("latin1.yml", "UTF-8", Some((2, 18))),
    ];
    for (file, what, place) in refused {
        let failure = Inventory::load(&[at.join(file)]).unwrap_err();
        assert!(failure.what.contains(what), "{file}: {failure:?}");
        assert_eq!(failure.place.map(|place| (place.line, place.column)), place, "{file}");
        assert_eq!(failure.kind, Kind::CouldNotStart);
    }
    for missing in [vec![at.join("nowhere.yml")], vec![]] {
        assert_eq!(Inventory::load(&missing).unwrap_err().kind.exit_code(), 6);
    }
}

#[test]
fn rendered_variables() {
    let inventory = inventory_of(
        "all:\n  vars:\n    base: /data\n    pce_work_dir: \"{{ base }}/ferry\"\n    later: \"{{ not_yet.stdout }}\"\n    \
         ansible_host: \"{{ inventory_hostname }}.example\"\n    secret: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      3132\n    \
         others: \"{{ groups['all'] | join(' ') }}\"\n    count: \"{{ extra_count | int + 1 }}\"\n  hosts: { a: , b: }\n",
    )
    .unwrap();
    let mut extra = Map::new();
    extra.insert("extra_count".to_owned(), json!("41"));
    let vars = inventory.rendered_vars(&host("a"), &extra).unwrap();
    assert_eq!(vars.get("pce_work_dir"), Some(&json!("/data/ferry")));
    assert_eq!(vars.get("others"), Some(&json!("a b")));
    assert_eq!(vars.get("count"), Some(&json!(42)));
    assert!(!vars.contains_key("later"));
    let typed = HostVars::read(&inventory, &host("a"), &extra).unwrap();
    assert_eq!(typed.connection.address, "a.example");
    assert_eq!(typed.pce.work_dir.as_deref(), Some(Path::new("/data/ferry")));
}

#[test]
fn typed_variables_fail_with_their_place() {
    let read = |vars: &str| {
        let text = format!("all:\n  vars:\n{vars}  hosts: {{ a: , b: }}\n");
        let inventory = inventory_of(&text).unwrap();
        let hosts = inventory.select("all").unwrap();
        HostVars::read_all(&inventory, &hosts, &Map::new())
    };
    let cases = [
        ("    pce_work_dir: \"{{ 'x' }}\"\n", (3, 19), "pce_work_dir is an absolute path"),
        ("    pce_work_dir: \"{{ bsae }}\"\n    base: /x\n", (3, 19), "bsae is not defined"),
        ("    x: 1\n    pce_backup_timeout: \"{{ 5 }}\"\n", (4, 25), "is a duration with a unit"),
        ("    ansible_become_password: !vault |\n      $ANSIBLE_VAULT;1.1\n", (3, 30), "damaged"),
        ("    ansible_user: \"{{ ansible_user }}\"\n", (3, 19), "refers to itself"),
    ];
    for (vars, at, what) in cases {
        let failure = read(vars).unwrap_err();
        assert!(told(&failure).to_lowercase().contains(&what.to_lowercase()), "{vars}: {failure:?}");
        assert!(failure.more.is_empty(), "one line is one error: {failure:?}");
        assert_eq!(failure.place.map(|place| (place.line, place.column - 1 + 1)), Some((at.0, at.1)), "{vars}");
    }
    let good = read("    ansible_become_pass: \"pa ss\"\n    ansible_port: \"2222\"\n    ansible_become: 'yes'\n    ansible_ssh_timeout: 7\n").unwrap();
    let (_, vars) = good.first().unwrap();
    assert_eq!(vars.becoming.password.as_ref().unwrap().expose_secret(), "pa ss");
    assert_eq!(vars.connection.port, Some(2222));
    assert_eq!(vars.becoming.wanted, Some(true));
    assert_eq!(vars.connection.timeout.unwrap().as_secs(), 7);
    assert!(!format!("{vars:?}").contains("pa ss"));
}

fn modules() -> ModuleTable {
    const fn arg(name: &'static str, kind: ArgKind, required: bool) -> ArgSpec {
        let spec = ArgSpec::new(name, kind, "what it means");
        if required { spec.required() } else { spec }
    }
    const COMMAND: &[ArgSpec] = &[
        arg("cmd", ArgKind::Str, false),
        arg("argv", ArgKind::List, false),
        arg("chdir", ArgKind::Path, false),
        arg("creates", ArgKind::Path, false),
    ];
    const DEBUG: &[ArgSpec] = &[arg("msg", ArgKind::Any, false), arg("var", ArgKind::Str, false)];
    const BACKUP: &[ArgSpec] = &[
        arg("dest", ArgKind::Path, true),
        arg("keep", ArgKind::Bool, false),
        arg("tries", ArgKind::Int, false),
        arg("timeout", ArgKind::Duration, false),
        arg("members", ArgKind::List, false),
        arg("labels", ArgKind::Map, false),
    ];
    ModuleTable::new(&[
        ModuleSpec::new("command", "what it does", COMMAND).free_form(),
        ModuleSpec::new("shell", "what it does", COMMAND).free_form(),
        ModuleSpec::new("debug", "what it does", DEBUG),
        ModuleSpec::new("gravity_backup", "what it does", BACKUP),
    ])
}

#[test]
fn a_playbook() {
    let text = std::fs::read_to_string(fixtures().join("playbook.yml")).unwrap();
    let playbook = Playbook::parse("playbook.yml", &text, &modules()).unwrap();
    let [play, second] = playbook.plays.as_slice() else { panic!("two plays") };
    assert_eq!(play.hosts.text, "prod:&mains");
    assert_eq!(second.hosts.text, "dr,nfs");
    assert_eq!(play.common.vars[0].0, "where");
    assert_eq!((play.common.vars[0].1.line, play.common.vars[0].1.column), (8, 12));
    assert_eq!(play.common.tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>(), ["night", "full"]);
    let Step::Task(uptime) = &play.tasks[0] else { panic!("a task") };
    assert_eq!((uptime.module, uptime.place.line), ("command", 11));
    let args: Vec<(&str, &Value)> = uptime.args.iter().map(|(name, _, value)| (name.as_str(), value)).collect();
    assert_eq!(args, [("cmd", &json!("uptime --pretty")), ("chdir", &json!("/tmp"))]);
    assert_eq!(uptime.register.as_ref().unwrap().text, "up");
    assert_eq!(uptime.changed_when.as_ref().unwrap()[0].text, "false");
    let Step::Block(block) = &play.tasks[1] else { panic!("a block") };
    assert_eq!(block.common.when.len(), 2);
    assert_eq!((block.block.len(), block.rescue.len(), block.always.len()), (1, 1, 1));
    let Step::Task(backup) = &block.block[0] else { panic!("a task") };
    assert_eq!(backup.module, "gravity_backup");
    assert_eq!(
        backup.args.iter().map(|(name, _, _)| name.as_str()).collect::<Vec<_>>(),
        ["dest", "timeout", "members"]
    );

    let table = modules();
    let spec = table.get("ansible.builtin.gravity_backup").unwrap();
    let place = backup.place.clone();
    let arg = |name: &str, value: Value| (name.to_owned(), place.clone(), value);
    let rendered = [
        arg("dest", json!("/x")),
        arg("keep", json!("yes")),
        arg("tries", json!("3")),
        arg("timeout", json!("20m")),
        arg("members", json!("a, b")),
        arg("labels", Value::Null),
    ];
    assert_eq!(
        Value::Object(spec.check_rendered(&rendered).unwrap()),
        json!({"dest": "/x", "keep": true, "tries": 3, "timeout": "20m", "members": ["a", "b"]})
    );
    let failure = spec
        .check_rendered(&[arg("dest", Value::Null), arg("tries", json!("x")), arg("timeout", json!(60))])
        .unwrap_err();
    assert_eq!(failure.more.len(), 2, "{failure:?}");
}

fn env_of(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn settings_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(
        at,
        &[
            (
                "work/ferry.toml",
                "inventory = [\"inventory/\", \"n1,n2\"]\ncatalog = [\"points\", \"file:///mnt/points\"]\nforks = 7\nrecipients = []\n\
                 [keep]\ndaily = 7\nwithin = \"30d\"\n[hooks]\n",
            ),
            ("config/ferry/ferry.toml", "forks = 9\n"),
            ("named.toml", "runs = \"journals\"\n"),
            ("work/deep/er/x", ""),
        ],
    );
    let home = at.display().to_string();
    let config = at.join("config").display().to_string();
    let resolve = |flags: &Flags, pairs: &[(&str, &str)], cwd: &str| {
        let mut env = env_of(&[("HOME", &home), ("XDG_CONFIG_HOME", &config)]);
        env.extend(env_of(pairs));
        Settings::resolve(flags, &|name: &str| env.get(name).cloned(), &at.join(cwd))
    };
    let none = Flags::default();
    let found = resolve(&none, &[], "work/deep/er").unwrap();
    assert_eq!(found.file, Some(at.join("work/ferry.toml")));
    assert_eq!(found.inventory, [at.join("work/inventory/"), "n1,n2".into()]);
    assert_eq!(found.catalogs, [at.join("work/points"), "/mnt/points".into()]);
    assert_eq!(found.runs, at.join(".local/share/ferry/runs"));
    assert_eq!((found.forks, found.keep.daily, found.compat_ansible), (7, Some(7), false));
    assert_eq!(found.keep.within.unwrap().as_secs(), 30 * 86_400);

    let env = [
        ("ANSIBLE_FORKS", "20"),
        ("ANSIBLE_INVENTORY", "hosts.yml"),
        ("FERRY_CATALOG", "here"),
        ("FERRY_COMPAT", "ansible"),
        ("FERRY_KEEP_DAILY", "3"),
        ("XDG_DATA_HOME", "/data"),
    ];
    let found = resolve(&none, &env, "work").unwrap();
    assert_eq!((found.forks, found.keep.daily, found.compat_ansible), (20, Some(3), true));
    assert_eq!(found.inventory, [PathBuf::from("hosts.yml")]);
    assert_eq!(found.catalogs, [at.join("work/here")]);
    assert_eq!(found.runs, Path::new("/data/ferry/runs"));

    let flags = Flags {
        inventory: vec!["given.yml".into()],
        catalog: vec!["/c".to_owned()],
        run_dir: Some("r".into()),
        forks: Some(2),
    };
    let found =
        resolve(&flags, &[("FERRY_FORKS", "3"), ("ANSIBLE_FORKS", "4"), ("FERRY_INVENTORY", "x")], "work").unwrap();
    assert_eq!(found.forks, 2);
    assert_eq!(found.inventory, [PathBuf::from("given.yml")]);
    assert_eq!(found.catalogs, [PathBuf::from("/c")]);
    assert_eq!(found.runs, at.join("work/r"));

    assert_eq!(resolve(&none, &[("FERRY_FORKS", "3"), ("ANSIBLE_FORKS", "4")], "work").unwrap().forks, 3);
    assert_eq!(resolve(&none, &[], "config").unwrap().forks, 9);
    let named = resolve(&none, &[("FERRY_CONFIG", "~/named.toml")], "work").unwrap();
    assert_eq!((named.forks, named.runs), (5, at.join("journals")));

    for bad in [
        ("FERRY_CONFIG", "nowhere.toml"),
        ("FERRY_FORKS", "many"),
        ("ANSIBLE_FORKS", "0"),
        ("FERRY_COMPAT", "puppet"),
        ("FERRY_CATALOG", "gs://x"),
        ("FERRY_HOOKS", "x"),
        ("FERRY_RECIPIENTS", "age1"),
        ("FERRY_KEEP_WITHIN", "30"),
        ("ANSIBLE_HOST_KEY_CHECKING", "perhaps"),
    ] {
        let failure = resolve(&none, &[bad], "work").unwrap_err();
        assert_eq!(failure.kind, Kind::CouldNotStart, "{bad:?}");
        assert!(bad.0 == "FERRY_CATALOG" || failure.what.contains(bad.0), "{bad:?}: {failure:?}");
    }
    assert!(Settings::resolve(&none, &|_| None, Path::new("/")).unwrap_err().what.contains("HOME"));
}

#[cfg(unix)]
#[test]
fn a_catalog_that_everybody_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    assert!(check_catalog_folder(&path).is_ok(), "not there yet");
    ferry::settings::make_private_folder(&path.join("deep")).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for (mode, good) in [(0o700, true), (0o755, true), (0o770, true), (0o777, false), (0o1777, false), (0o702, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(check_catalog_folder(&path).is_ok(), good, "{mode:o}");
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(check_catalog_folder(&folder.path().join("file")).is_err());
}
