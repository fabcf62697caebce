//! The modules for hosts, under dash, bash and busybox: what they change, that a second run changes nothing, that a check
//! changes nothing, and that every value arrives as data.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ferry::event::{Events, Outcome};
use ferry::failure::Place;
use ferry::modules::{self, Call, Choices, Done, RunInfo, World};
use ferry::name::RunId;
use ferry::remote::Way;
use ferry::remote::local::LocalSession;
use ferry::remote::sudo::Become;
use serde_json::{Map, Value, json};

const SHELLS: &[&str] = &["dash", "bash --posix", "busybox sh"];

/// This machine as a host, whose `sh` is one of [`SHELLS`].
fn world(shell: &str, folder: &Path, check: bool) -> World {
    let stand_in = folder.join(format!("sudo-{}", shell.split(' ').next().unwrap()));
    if !stand_in.exists() {
        let text = format!("#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexec {shell} \"$@\"\n");
        std::fs::write(&stand_in, text).unwrap();
        std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let become_plan = Become { exe: stand_in.to_string_lossy().into_owned(), ..Become::root(None) };
    let now = jiff::Timestamp::now();
    let run = RunInfo {
        id: RunId::at(now),
        dir: PathBuf::new(),
        who: serde_json::from_value(json!({"user": "t", "machine": "t"})).unwrap(),
        command: String::new(),
        flags: String::new(),
        catalog_flag: String::new(),
        started: now,
        inventory_sha256: None,
        playbook_sha256: None,
    };
    let choices = Choices {
        check,
        only: Vec::new(),
        label: None,
        hold: None,
        waive: BTreeMap::new(),
        patience: std::time::Duration::from_secs(60),
        restore: Default::default(),
    };
    let ways = BTreeMap::from([("h".to_owned(), Way::Local(LocalSession::new("h", become_plan)))]);
    World::new(Events::nobody(), run, choices, None, ways, BTreeMap::new(), None)
}

fn args(module: &str, args: &Value) -> Result<(&'static str, Map<String, Value>), String> {
    let table = modules::table();
    let spec = modules::TABLE.iter().find(|spec| spec.name == module).unwrap();
    assert!(table.get(module).is_some());
    let place = Place { file: "t.yml".into(), line: 1, column: 1 };
    let written: Vec<(String, Place, Value)> =
        args.as_object().unwrap().iter().map(|(key, value)| (key.clone(), place.clone(), value.clone())).collect();
    spec.check_rendered(&written).map(|args| (spec.name, args)).map_err(|failure| failure.what)
}

async fn call(world: &World, module: &str, given: Value) -> Done {
    let (module, args) = args(module, &given).unwrap();
    let mut call = Call::plain(world, "h", module, &args);
    call.diff = true;
    match modules::on_host(&call).await {
        Ok(done) => done,
        Err(failure) => panic!("{module} {given}: {failure:?}"),
    }
}

/// Every path below a folder with its kind, mode, size, time and content. The times of access stay as they were: a module
/// that is asked for one has to find what it left.
fn tree(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(here) = todo.pop() {
        for entry in std::fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            let data = std::fs::symlink_metadata(&path).unwrap();
            let content = if data.is_symlink() {
                std::fs::read_link(&path).unwrap().display().to_string()
            } else if data.is_file() {
                let content = format!("{:?}", std::fs::read(&path).unwrap());
                let times = std::fs::FileTimes::new().set_accessed(data.accessed().unwrap());
                std::fs::File::open(&path).unwrap().set_times(times).unwrap();
                content
            } else {
                String::new()
            };
            out.push(format!("{} {:o} {} {} {content}", path.display(), data.mode(), data.mtime(), data.mtime_nsec()));
            if data.is_dir() {
                todo.push(path);
            }
        }
    }
    out.sort();
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_module_changes_once_and_a_check_changes_nothing() {
    for shell in SHELLS {
        let top = tempfile::tempdir().unwrap();
        let here = top.path().join("host");
        std::fs::create_dir(&here).unwrap();
        let local = top.path().join("local");
        std::fs::create_dir_all(local.join("tree/inner")).unwrap();
        std::fs::write(local.join("plain"), "text\n").unwrap();
        std::fs::write(local.join("tree/inner/a"), "a").unwrap();
        std::fs::write(local.join("tree/b"), "b").unwrap();
        std::fs::write(local.join("t.j2"), "n={{ 1 + 1 }}\n").unwrap();
        std::fs::write(here.join("old"), "old\n").unwrap();
        std::fs::write(here.join("gone"), "x").unwrap();
        std::fs::write(here.join("source"), "from there\n").unwrap();
        let at = |name: &str| here.join(name).display().to_string();
        let from = |name: &str| local.join(name).display().to_string();
        let home = top.path().join("home").display().to_string();
        let cases: Vec<(&str, Value)> = vec![
            ("copy", json!({"content": "a\n", "dest": at("c1"), "mode": "0640"})),
            ("copy", json!({"src": from("plain"), "dest": at("old"), "mode": 0o600})),
            ("copy", json!({"src": from("plain"), "dest": at("newdir/")})),
            ("copy", json!({"src": from("tree"), "dest": at("trees")})),
            ("copy", json!({"src": format!("{}/", from("tree")), "dest": at("flat")})),
            ("copy", json!({"src": at("source"), "dest": at("there"), "remote_src": true})),
            ("copy", json!({"content": {"a": [1, true]}, "dest": at("json"), "validate": "grep -q a %s"})),
            ("template", json!({"src": from("t.j2"), "dest": at("rendered"), "mode": "u=rw,g=r,o="})),
            ("file", json!({"path": at("d/e/f"), "state": "directory", "mode": "0750"})),
            ("file", json!({"path": at("d"), "state": "directory", "mode": "u=rwX,go=", "recurse": true})),
            ("file", json!({"path": at("link"), "state": "link", "src": "old"})),
            ("file", json!({"path": at("hard"), "state": "hard", "src": at("old")})),
            ("file", json!({"path": at("gone"), "state": "absent"})),
            ("file", json!({"path": at("old"), "mode": "a+r"})),
            (
                "file",
                json!({"path": at("touched"), "state": "touch", "modification_time": "202001020304.05", "access_time": "202001020304.05"}),
            ),
            ("fetch", json!({"src": at("source"), "dest": format!("{home}/"), "flat": true})),
            ("fetch", json!({"src": at("source"), "dest": home})),
            ("command", json!({"cmd": format!("touch {}", at("made")), "creates": at("mad*")})),
            ("shell", json!({"cmd": "rm x-removed", "chdir": here, "removes": at("x-removed")})),
        ];
        std::fs::write(here.join("x-removed"), "").unwrap();
        let (real, checking) = (world(shell, top.path(), false), world(shell, top.path(), true));
        for (module, given) in cases {
            let before = tree(&here);
            let checked = call(&checking, module, given.clone()).await;
            assert_eq!(checked.outcome, Outcome::Changed, "{shell}: check of {module} {given}: {:?}", checked.result);
            assert_eq!(tree(&here), before, "{shell}: a check of {module} {given} changed something");
            let first = call(&real, module, given.clone()).await;
            assert_eq!(first.outcome, Outcome::Changed, "{shell}: {module} {given}: {:?}", first.result);
            let between = tree(&here);
            let second = call(&real, module, given.clone()).await;
            assert_eq!(second.outcome, Outcome::Ok, "{shell}: {module} {given} a second time: {:?}", second.result);
            assert_eq!(tree(&here), between, "{shell}: {module} {given} changed something a second time");
            let again = call(&checking, module, given.clone()).await;
            assert_eq!(
                again.outcome,
                Outcome::Ok,
                "{shell}: a check of {module} {given} afterwards: {:?}",
                again.result
            );
        }
        assert_eq!(std::fs::read_to_string(here.join("rendered")).unwrap(), "n=2\n");
        assert_eq!(std::fs::metadata(here.join("rendered")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read_to_string(here.join("old")).unwrap(), "text\n");
        assert_eq!(std::fs::read_to_string(here.join("newdir/plain")).unwrap(), "text\n");
        assert_eq!(std::fs::read_to_string(here.join("trees/tree/inner/a")).unwrap(), "a");
        assert_eq!(std::fs::read_to_string(here.join("flat/b")).unwrap(), "b");
        assert_eq!(std::fs::read_to_string(here.join("json")).unwrap(), "{\"a\": [1, true]}");
        assert_eq!(std::fs::metadata(here.join("c1")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read_link(here.join("link")).unwrap(), Path::new("old"));
        assert_eq!(std::fs::read_to_string(top.path().join("home/source")).unwrap(), "from there\n");
        assert!(top.path().join("home/h").join(at("source").trim_start_matches('/')).exists());
        // Nothing of ours is left.
        assert!(!tree(&here).iter().any(|line| line.contains(".ferry")), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_in_the_zone_of_the_host() {
    // 2020-01-02 03:04:05 where clocks are five and a half hours ahead of UTC.
    const AT: i64 = 1_577_914_445;
    for shell in SHELLS {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("-it's");
        let world = world(&format!("env TZ=EAST-5:30 {shell}"), top.path(), false);
        let touch = |modified: &str, accessed: &str| {
            let given = json!({"path": path, "state": "touch", "modification_time": modified, "access_time": accessed});
            call(&world, "file", given)
        };
        let times = || {
            let data = std::fs::metadata(&path).unwrap();
            (data.mtime(), data.mtime_nsec(), data.atime(), data.atime_nsec())
        };
        for (modified, accessed, outcome, expected) in [
            ("202001020304.05", "202001020304.05", Outcome::Changed, (AT, 0, AT, 0)),
            ("202001020304.05", "202001020304.05", Outcome::Ok, (AT, 0, AT, 0)),
            ("preserve", "202001020304", Outcome::Changed, (AT, 0, AT - 5, 0)),
            ("preserve", "202001020304.00", Outcome::Ok, (AT, 0, AT - 5, 0)),
            ("202001020304", "preserve", Outcome::Changed, (AT - 5, 0, AT - 5, 0)),
            ("preserve", "preserve", Outcome::Ok, (AT - 5, 0, AT - 5, 0)),
        ] {
            let done = touch(modified, accessed).await;
            assert_eq!(done.outcome, outcome, "{shell}: {modified} {accessed}: {:?}", done.result);
            assert_eq!(times(), expected, "{shell}: {modified} {accessed}");
        }
        // A part of a second is another time.
        let part = std::time::UNIX_EPOCH + std::time::Duration::new(AT as u64, 500_000_000);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(part)).unwrap();
        assert_eq!(touch("202001020304.05", "preserve").await.outcome, Outcome::Changed, "{shell}");
        assert_eq!(times(), (AT, 0, AT - 5, 0), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_that_look() {
    for shell in SHELLS {
        let top = tempfile::tempdir().unwrap();
        let here = top.path().join("host");
        std::fs::create_dir_all(here.join("sub")).unwrap();
        std::fs::write(here.join("a.log"), "hello\nworld\n").unwrap();
        std::fs::write(here.join("sub/b.log"), vec![0u8; 4096]).unwrap();
        std::fs::write(here.join(".hidden.log"), "").unwrap();
        std::os::unix::fs::symlink("a.log", here.join("l")).unwrap();
        let at = |name: &str| here.join(name).display().to_string();
        let world = world(shell, top.path(), false);
        let before = tree(&here);
        let done = call(&world, "stat", json!({"path": at("a.log")})).await.result;
        let stat = &done["stat"];
        assert_eq!(stat["exists"], true, "{shell} {done}");
        assert_eq!((&stat["size"], &stat["isreg"], &stat["islnk"]), (&json!(12), &json!(true), &json!(false)));
        assert_eq!(stat["checksum"].as_str().unwrap().len(), 40);
        assert_eq!(call(&world, "stat", json!({"path": at("l")})).await.result["stat"]["lnk_target"], "a.log");
        assert_eq!(call(&world, "stat", json!({"path": at("no")})).await.result["stat"], json!({"exists": false}));
        let done = call(&world, "slurp", json!({"src": at("a.log")})).await.result;
        assert_eq!(done["content"], "aGVsbG8Kd29ybGQK", "{shell}");
        let names = |done: Done| -> Vec<String> {
            done.result["files"]
                .as_array()
                .unwrap()
                .iter()
                .map(|file| file["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
                .collect()
        };
        let find = |given: Value| call(&world, "find", given);
        assert_eq!(names(find(json!({"paths": at("")})).await), ["a.log"], "{shell}");
        let mut all = names(find(json!({"paths": at(""), "recurse": true, "hidden": true, "patterns": "*.log"})).await);
        all.sort();
        assert_eq!(all, [".hidden.log", "a.log", "b.log"], "{shell}");
        assert_eq!(names(find(json!({"paths": at(""), "recurse": true, "size": "1k"})).await), ["b.log"], "{shell}");
        assert_eq!(names(find(json!({"paths": at(""), "contains": "wor"})).await), ["a.log"], "{shell}");
        assert_eq!(names(find(json!({"paths": at(""), "file_type": "link"})).await), ["l"], "{shell}");
        assert_eq!(
            names(find(json!({"paths": at(""), "patterns": "^a.*", "use_regex": true, "age": "-1h"})).await),
            ["a.log"]
        );
        let facts = call(&world, "setup", json!({})).await.result;
        let facts = &facts["ansible_facts"];
        for name in [
            "ansible_kernel",
            "ansible_distribution",
            "ansible_os_family",
            "ansible_hostname",
            "ansible_architecture",
            "ansible_user_id",
            "ansible_pkg_mgr",
        ] {
            assert!(facts[name].as_str().is_some_and(|text| !text.is_empty()), "{shell}: {name}: {}", facts[name]);
        }
        assert!(facts["ansible_processor_vcpus"].as_u64().is_some_and(|count| count > 0), "{shell}");
        assert!(facts["ansible_memtotal_mb"].as_u64().is_some_and(|size| size > 100), "{shell}");
        assert!(facts["ansible_env"]["PATH"].as_str().is_some());
        assert!(facts["ansible_date_time"]["epoch"].as_str().is_some_and(|epoch| epoch.parse::<u64>().is_ok()));
        // Named where there is one, and never run.
        assert!(facts["ansible_python"]["executable"].as_str().is_none_or(|path| path.starts_with('/')), "{facts}");
        let few =
            call(&world, "setup", json!({"gather_subset": ["!all", "min"], "filter": "ansible_dist*"})).await.result;
        assert!(
            few["ansible_facts"].get("ansible_distribution").is_some()
                && few["ansible_facts"].get("ansible_kernel").is_none()
        );
        let done = call(&world, "wait_for", json!({"path": at("a.log"), "search_regex": "w(or)ld", "timeout": 5}))
            .await
            .result;
        assert_eq!(done["match_groups"], json!(["or"]), "{shell}");
        let late = call(&world, "wait_for", json!({"path": at("never"), "timeout": 1})).await;
        assert_eq!(late.outcome, Outcome::Failed);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(call(&world, "wait_for", json!({"port": port, "timeout": 5})).await.outcome, Outcome::Ok, "{shell}");
        drop(listener);
        assert_eq!(
            call(&world, "wait_for", json!({"port": port, "state": "stopped", "timeout": 5})).await.outcome,
            Outcome::Ok,
            "{shell}"
        );
        assert_eq!(call(&world, "wait_for_connection", json!({"timeout": 5})).await.outcome, Outcome::Ok);
        assert_eq!(tree(&here), before, "{shell}: looking changed something");
        let temp =
            call(&world, "tempfile", json!({"path": at(""), "prefix": "a b.", "suffix": ".x", "state": "directory"}))
                .await
                .result;
        let path = temp["path"].as_str().unwrap();
        assert!(Path::new(path).is_dir() && path.ends_with(".x"), "{shell} {temp}");
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o700);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_have_ansibles_results() {
    for shell in SHELLS {
        let top = tempfile::tempdir().unwrap();
        let world = world(shell, top.path(), false);
        let run = |given: Value| call(&world, "command", given);
        let done =
            run(json!({"argv": ["printf", "%s|", "a b", "$HOME", "'", "--", ""], "expand_argument_vars": false}))
                .await
                .result;
        assert_eq!(done["stdout"], "a b|$HOME|'|--||", "{shell}");
        let done = run(json!({"cmd": "printf %s $HOME-$NO_SUCH_NAME_X"})).await.result;
        assert!(done["stdout"].as_str().unwrap().ends_with("-$NO_SUCH_NAME_X"), "{shell} {done}");
        assert!(!done["stdout"].as_str().unwrap().starts_with('$'), "{shell} {done}");
        let done = run(json!({"cmd": "cat", "stdin": "in\nput"})).await.result;
        assert_eq!((&done["stdout"], &done["rc"]), (&json!("in\nput"), &json!(0)), "{shell}");
        let done = run(json!({"cmd": "no-such-command-x"})).await;
        assert_eq!((done.outcome, &done.result["rc"]), (Outcome::Failed, &json!(2)), "{shell} {:?}", done.result);
        assert!(done.result["msg"].as_str().unwrap().contains("No such file"), "{shell}");
        let done = call(&world, "shell", json!({"cmd": "echo out; echo err >&2; exit 3"})).await;
        assert_eq!((&done.result["rc"], &done.result["msg"]), (&json!(3), &json!("non-zero return code")), "{shell}");
        assert_eq!((&done.result["stdout_lines"], &done.result["stderr"]), (&json!(["out"]), &json!("err")), "{shell}");
        assert!(done.result["delta"].as_str().unwrap().starts_with("0:00:0"));
        let done = call(&world, "shell", json!({"cmd": "printf 'a\\n\\n'", "strip_empty_ends": false})).await.result;
        assert_eq!(done["stdout"], "a\n\n", "{shell}");
        let done = call(&world, "shell", json!({"cmd": "echo $BASH_VERSION", "executable": "/bin/bash"})).await.result;
        assert!(!done["stdout"].as_str().unwrap().is_empty(), "{shell}");
        std::fs::write(top.path().join("s.sh"), "#!/bin/sh\nprintf '%s,' \"$0\" \"$@\"\n").unwrap();
        let done =
            call(&world, "script", json!({"cmd": format!("{} 'a b' \"c'd\"", top.path().join("s.sh").display())}))
                .await
                .result;
        assert!(done["stdout"].as_str().unwrap().ends_with(",a b,c'd,"), "{shell} {done}");
        let left = done["stdout"].as_str().unwrap().split(',').next().unwrap().to_owned();
        assert!(!Path::new(&left).exists(), "{shell}: {left} was left");
    }
}

#[test]
fn wrong_arguments_are_told_before_any_host() {
    for (module, given, what) in [
        ("copy", json!({"dst": "/x"}), "dst"),
        ("copy", json!({"content": "x"}), "dest"),
        ("file", json!({"path": "/x", "state": "dir"}), "state"),
        ("file", json!({"state": "file"}), "path"),
        ("stat", json!({"path": ["a"]}), "path"),
        ("command", json!({"cmd": "x", "warn": false}), "warn"),
        ("find", json!({"paths": "/", "recurse": "perhaps"}), "recurse"),
        ("wait_for", json!({"port": "ssh"}), "port"),
        ("template", json!({"src": "a"}), "dest"),
    ] {
        let told = args(module, &given).unwrap_err();
        assert!(told.contains(what), "{module} {given}: {told}");
    }
}

/// What an argument spec says of each wrong value, as ansible-core 2.19.14 says it but for the names of Python's types.
#[tokio::test]
async fn argument_specs_tell_what_is_wrong() {
    let top = tempfile::tempdir().unwrap();
    let world = world("dash", top.path(), false);
    let spec = json!({
        "a": {"type": "int", "required": true}, "b": {"type": "list", "elements": "int"}, "c": {"type": "str", "choices": ["x", "y"]},
        "d": {"type": "dict", "options": {"e": {"type": "int", "required": true}, "f": {"type": "bool"}, "g": {"choices": [1, 2], "type": "int"}},
              "required_one_of": [["f", "g"]]},
        "l": {"type": "list", "elements": "dict", "options": {"e": {"type": "int", "required": true}}},
        "m": {"type": "list", "elements": "str", "choices": ["p", "q"]}, "n": {"type": "float"}, "o": {"type": "path"}, "p": {"type": "json"},
        "q": {"type": "bytes"}, "r": {"type": "bits"}, "s": {"type": "raw"}, "t": {"type": "bool"}, "u": {"type": "str"},
        "w": {"type": "str", "aliases": ["ww"]}, "x": {"type": "dict"},
    });
    for (given, wanted) in [
        (
            json!({"b": [1, "x"], "c": "z", "d": {"e": "q", "f": "maybe", "h": 1, "g": 3}, "l": [{"e": 1}, {}, {"e": "z"}], "m": ["p", "z"],
                "n": "abc", "o": [1], "p": 1, "q": "1x", "r": "zz", "t": 7, "u": [1], "x": "foo"}),
            vec![
                "missing required arguments: a",
                "Elements value for option 'b' is of type str and we were unable to convert to int: \"'x'\" cannot be converted to an int",
                "argument 'n' is of type str and we were unable to convert to float: <class 'str'> cannot be converted to a float",
                "argument 'p' is of type int and we were unable to convert to json: <class 'int'> cannot be converted to a json string",
                "argument 'q' is of type str and we were unable to convert to bytes: <class 'str'> cannot be converted to a Byte value",
                "argument 'r' is of type str and we were unable to convert to bits: <class 'str'> cannot be converted to a Bit value",
                "argument 't' is of type int and we were unable to convert to bool: The value '7' is not a valid boolean.",
                "argument 'x' is of type str and we were unable to convert to dict: dictionary requested, could not parse JSON or key=value",
                "value of c must be one of: x, y, got: z",
                "value of m must be one or more of: p, q. Got no match for: z",
                "argument 'e' is of type str found in 'd'. and we were unable to convert to int: \"'q'\" cannot be converted to an int",
                "argument 'f' is of type str found in 'd'. and we were unable to convert to bool: The value 'maybe' is not a valid boolean.",
                "value of g must be one of: 1, 2, got: 3 found in d",
                "missing required arguments: e found in l",
                "argument 'e' is of type str found in 'l'. and we were unable to convert to int: \"'z'\" cannot be converted to an int",
                "d.h. Supported parameters include: e, f, g.",
            ],
        ),
        (
            json!({"a": 1, "b": "1,2", "c": "x", "d": {"e": "1"}, "l": {"e": 1}, "n": 1, "q": "1K", "r": "1Kb", "t": "yes", "u": 1, "x": "a=1 b=2", "ww": 1}),
            vec![
                "argument 'l' is of type dict and we were unable to convert to list: <class 'dict'> cannot be converted to a list",
                "one of the following is required: f, g found in d",
            ],
        ),
        (
            json!({"a": null, "t": null}),
            vec![
                "argument 'a' is of type NoneType and we were unable to convert to int: \"None\" cannot be converted to an int",
            ],
        ),
        (json!({"a": "5", "b": 3, "n": "1.5", "d": {"e": 1, "f": "no"}, "q": "3 MB"}), vec![]),
    ] {
        let done =
            call(&world, "validate_argument_spec", json!({"argument_spec": spec, "provided_arguments": given})).await;
        let errors: Vec<&str> = done.result["argument_errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().unwrap())
            .collect();
        assert_eq!(errors.len(), wanted.len(), "{errors:#?}");
        for (is, wanted) in errors.iter().zip(&wanted) {
            assert!(is.starts_with(wanted), "{is}\n{wanted}");
        }
        assert_eq!(done.outcome == Outcome::Failed, !wanted.is_empty());
    }
}

/// Letters that mean something to some shell, and some that mean nothing.
fn hostile(seed: u64) -> String {
    const PARTS: &[&str] = &[
        "'",
        "\"",
        "\\",
        "$(touch pwned)",
        "`touch pwned`",
        "${IFS}",
        "\n",
        " ",
        "-",
        "--",
        "{{ x }}",
        "{% if %}",
        ";",
        "&",
        "|",
        "*",
        "?",
        "~",
        "#",
        "!",
        "a",
        "é",
        "\t",
        "<",
        ">",
        "(",
        ")",
        "=",
        "$",
        "%s",
        "@@",
        "\r",
        "\u{1b}[0m",
    ];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    (0..1 + next() % 6).map(|_| PARTS[next() % PARTS.len()]).collect()
}

/// Words reach a command as they are, through three shells. `FERRY_LONG=1` for 100,000 lists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_arrive_as_data() {
    let lists: u64 = if std::env::var_os("FERRY_LONG").is_some() { 100_000 } else { 300 };
    let top = tempfile::tempdir().unwrap();
    // Many lists go in one call: printf writes each word and a mark.
    const TOGETHER: u64 = 100;
    for (index, shell) in SHELLS.iter().enumerate() {
        let world = world(shell, top.path(), false);
        for batch in 0..(lists / SHELLS.len() as u64).div_ceil(TOGETHER) {
            let words: Vec<String> =
                (0..TOGETHER * 3).map(|at| hostile(((index as u64) << 40) + batch * 1000 + at)).collect();
            let mut argv = vec!["printf".to_owned(), "%s\\001".to_owned()];
            argv.extend(words.iter().cloned());
            let done = call(
                &world,
                "command",
                json!({"argv": argv, "expand_argument_vars": false, "strip_empty_ends": false}),
            )
            .await
            .result;
            let expected: String = words.iter().map(|word| format!("{word}\u{1}")).collect();
            assert_eq!(done["stdout"].as_str().unwrap(), expected, "{shell}");
        }
    }
    assert!(!Path::new("pwned").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_of_files_are_only_names() {
    for shell in SHELLS {
        let top = tempfile::tempdir().unwrap();
        let here = top.path().join("host");
        std::fs::create_dir(&here).unwrap();
        let world = world(shell, top.path(), false);
        for name in [
            "it's",
            "a b",
            "$(touch pwned)",
            "`id`",
            "-rf",
            "{{ x }}",
            "\"q\"",
            "a;b",
            "*",
            "~x",
            "#c",
            "é",
            "%s",
            "\\n",
        ] {
            let path = here.join(name).display().to_string();
            assert_eq!(
                call(&world, "copy", json!({"content": name, "dest": path, "mode": "0600"})).await.outcome,
                Outcome::Changed,
                "{shell} {name}"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), name, "{shell}");
            assert_eq!(
                call(&world, "stat", json!({"path": path})).await.result["stat"]["path"],
                json!(path),
                "{shell}"
            );
            assert_eq!(call(&world, "slurp", json!({"src": path})).await.outcome, Outcome::Ok, "{shell}");
            assert_eq!(
                call(&world, "file", json!({"path": path, "state": "absent"})).await.outcome,
                Outcome::Changed,
                "{shell}"
            );
        }
        assert!(tree(&here).is_empty(), "{shell}: {:?}", tree(&here));
        let (module, nul) = args("command", &json!({"argv": ["echo", "a\0b"]})).unwrap();
        assert!(modules::on_host(&Call::plain(&world, "h", module, &nul)).await.is_err());
    }
}

/// A file larger than any buffer arrives whole, both ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_files_stream_both_ways() {
    let top = tempfile::tempdir().unwrap();
    let size = 24usize << 20;
    let bytes: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(top.path().join("big"), &bytes).unwrap();
    let world = world("busybox sh", top.path(), false);
    let at = |name: &str| top.path().join(name).display().to_string();
    let done = call(&world, "copy", json!({"src": at("big"), "dest": at("there")})).await;
    assert_eq!((done.outcome, &done.result["size"]), (Outcome::Changed, &json!(size)));
    assert_eq!(
        call(&world, "fetch", json!({"src": at("there"), "dest": at("back"), "flat": true})).await.outcome,
        Outcome::Changed
    );
    assert!(std::fs::read(top.path().join("back")).unwrap() == bytes);
}

/// One call of each module for hosts that [`each_module_changes_once_and_a_check_changes_nothing`] has not: what it is given, how its check
/// ends, and how it ends itself, each time.
#[allow(clippy::type_complexity)]
fn others(here: &Path, local: &Path) -> Vec<(&'static str, Value, Outcome, [Outcome; 2])> {
    use Outcome::{Changed, Failed, Ok, Skipped};
    let at = |name: &str| here.join(name).display().to_string();
    let from = |name: &str| local.join(name).display().to_string();
    vec![
        // Whether the inventory changes is known to the run alone: add_host and group_by of ansible-core's targets are about that.
        ("add_host", json!({"name": "new"}), Changed, [Changed, Changed]),
        ("assert", json!({"that": ["1 == 1"]}), Ok, [Ok, Ok]),
        ("async_status", json!({"jid": "j1.2"}), Failed, [Failed, Failed]),
        ("debug", json!({"msg": "x"}), Ok, [Ok, Ok]),
        ("fail", json!({"msg": "x"}), Failed, [Failed, Failed]),
        ("find", json!({"paths": at(""), "get_checksum": true}), Ok, [Ok, Ok]),
        ("group_by", json!({"key": "k"}), Changed, [Changed, Changed]),
        ("include_vars", json!({"file": from("vars.yml")}), Ok, [Ok, Ok]),
        ("pause", json!({"seconds": 0}), Ok, [Ok, Ok]),
        ("ping", json!({}), Ok, [Ok, Ok]),
        ("raw", json!({"cmd": format!("echo x >>{}", at("raw"))}), Skipped, [Changed, Changed]),
        (
            "script",
            json!({"cmd": format!("{} {}", from("s.sh"), at("scripted")), "creates": at("scripted")}),
            Skipped,
            [Changed, Skipped],
        ),
        ("set_fact", json!({"a": 1}), Ok, [Ok, Ok]),
        ("set_stats", json!({"data": {"a": 1}}), Ok, [Ok, Ok]),
        ("setup", json!({}), Ok, [Ok, Ok]),
        ("slurp", json!({"src": at("a")}), Ok, [Ok, Ok]),
        ("stat", json!({"path": at("a")}), Ok, [Ok, Ok]),
        ("tempfile", json!({"path": at("")}), Skipped, [Changed, Changed]),
        (
            "validate_argument_spec",
            json!({"argument_spec": {"a": {"type": "int"}}, "provided_arguments": {"a": "1"}}),
            Ok,
            [Ok, Ok],
        ),
        ("wait_for", json!({"path": at("a"), "timeout": 5}), Skipped, [Ok, Ok]),
        ("wait_for_connection", json!({"timeout": 5}), Skipped, [Ok, Ok]),
    ]
}

/// Of which [`each_module_changes_once_and_a_check_changes_nothing`] is about.
const CHANGING: &[&str] = &["copy", "template", "file", "fetch", "command", "shell"];

fn stage(top: &Path) -> (PathBuf, PathBuf) {
    let (here, local) = (top.join("host"), top.join("local"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&local).unwrap();
    std::fs::write(here.join("a"), "text\n").unwrap();
    std::fs::write(local.join("vars.yml"), "v: 1\n").unwrap();
    std::fs::write(local.join("s.sh"), "#!/bin/sh\necho \"it's\" >\"$1\"\n").unwrap();
    (here, local)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_every_module_changes_nothing() {
    for shell in SHELLS {
        let top = tempfile::tempdir().unwrap();
        let (here, local) = stage(top.path());
        let cases = others(&here, &local);
        // A module that is added has to come here too.
        for spec in modules::TABLE.iter().filter(|spec| modules::scope(spec.name) == modules::Scope::Host) {
            let known = CHANGING.contains(&spec.name) || cases.iter().any(|(name, ..)| *name == spec.name);
            assert!(known, "{} is not tried", spec.name);
        }
        let (real, checking) = (world(shell, top.path(), false), world(shell, top.path(), true));
        for (module, given, checked, done) in cases {
            let before = tree(&here);
            let ended = call(&checking, module, given.clone()).await;
            assert_eq!(ended.outcome, checked, "{shell}: check of {module} {given}: {:?}", ended.result);
            assert_eq!(tree(&here), before, "{shell}: a check of {module} {given} changed something");
            for (time, wanted) in ["first", "second"].into_iter().zip(done) {
                let before = tree(&here);
                let ended = call(&real, module, given.clone()).await;
                assert_eq!(ended.outcome, wanted, "{shell}: {module} {given}, {time} time: {:?}", ended.result);
                if wanted != Outcome::Changed {
                    assert_eq!(tree(&here), before, "{shell}: {module} {given} said {wanted:?} and changed something");
                }
            }
        }
    }
}

/// A playbook with one task is not read where an argument is wrong: so no host is asked. Every argument of every module.
#[test]
fn wrong_arguments_of_every_module_are_told_when_it_is_read() {
    use ferry::playbook::{ArgKind, Loader};
    let loader = Loader::new(modules::table());
    let read = |module: &str, args: &Map<String, Value>| {
        let play = json!([{"hosts": "all", "tasks": [{module: args}]}]);
        loader.text("t.yml", &play.to_string())
    };
    let good = |kind: ArgKind, choices: &[&str]| -> Value {
        if let Some(first) = choices.first() {
            return json!(first);
        }
        match kind {
            ArgKind::Bool => json!(true),
            ArgKind::Int => json!(1),
            ArgKind::List => json!(["a"]),
            ArgKind::Map => json!({"a": 1}),
            ArgKind::Duration => json!("5m"),
            _ => json!("/x"),
        }
    };
    let mut tried = 0;
    for spec in modules::TABLE {
        let mut whole = Map::new();
        for arg in spec.args.iter().filter(|arg| arg.required) {
            whole.insert(arg.name.to_owned(), good(arg.kind, arg.choices));
        }
        let anything = spec.args.iter().any(|arg| arg.name == "*");
        if !anything {
            let mut args = whole.clone();
            args.insert("no_such_argument".to_owned(), json!("x"));
            let told = read(spec.name, &args).unwrap_err().to_string();
            assert!(told.contains("no_such_argument") && told.contains("t.yml:1:"), "{}: {told}", spec.name);
            tried += 1;
        }
        for arg in spec.args.iter().filter(|arg| arg.required) {
            let mut args = whole.clone();
            args.remove(arg.name);
            let told = read(spec.name, &args).unwrap_err().to_string();
            assert!(told.contains(arg.name), "{} without {}: {told}", spec.name, arg.name);
            tried += 1;
        }
        for arg in spec.args.iter().filter(|arg| arg.name != "*") {
            let wrong = match arg.kind {
                _ if !arg.choices.is_empty() => json!("none of them"),
                ArgKind::Bool => json!("perhaps"),
                ArgKind::Int => json!("many"),
                ArgKind::Map => json!("text"),
                ArgKind::List => json!({"a": 1}),
                ArgKind::Duration => json!("soon"),
                ArgKind::Str | ArgKind::Path => json!({"a": 1}),
                ArgKind::Any | ArgKind::Expr => continue,
            };
            let mut args = whole.clone();
            args.insert(arg.name.to_owned(), wrong.clone());
            let told = match read(spec.name, &args) {
                Ok(_) => panic!("{} {}: {wrong} was taken", spec.name, arg.name),
                Err(failure) => failure.to_string(),
            };
            assert!(told.contains(arg.name), "{} {}: {told}", spec.name, arg.name);
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
}

/// What modules send to a host, as a shell there gets it: by a stand-in that keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_passes_shellcheck() {
    let top = tempfile::tempdir().unwrap();
    let (here, local) = stage(top.path());
    let kept = top.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let recorder = top.path().join("recorder");
    let text = format!(
        "#!/bin/bash\nn=$(mktemp {kept}/XXXXXX)\nprintf '%s' \"$2\" >\"$n.sh\"\nexec dash \"$@\" < <(tee \"$n.in\")\n",
        kept = kept.display()
    );
    std::fs::write(&recorder, text).unwrap();
    std::fs::set_permissions(&recorder, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(local.join("t.j2"), "n={{ 1 + 1 }}\n").unwrap();
    let world = world(&format!("env {}", recorder.display()), top.path(), false);
    let at = |name: &str| here.join(name).display().to_string();
    let mut cases: Vec<(&str, Value)> =
        others(&here, &local).into_iter().map(|(module, given, ..)| (module, given)).collect();
    cases.extend([
        (
            "copy",
            json!({"content": "a\n", "dest": at("it's c"), "mode": "u=rw", "validate": "grep -q a %s", "backup": true}),
        ),
        ("copy", json!({"src": at("a"), "dest": at("there"), "remote_src": true, "owner": "0", "group": "0"})),
        ("copy", json!({"src": format!("{}/", local.display()), "dest": at("folder")})),
        ("template", json!({"src": local.join("t.j2").display().to_string(), "dest": at("rendered")})),
        ("file", json!({"path": at("d/e"), "state": "directory", "mode": "0750"})),
        ("file", json!({"path": at("d"), "state": "directory", "mode": "u=rwX,go=", "recurse": true})),
        ("file", json!({"path": at("link"), "state": "link", "src": "a"})),
        ("file", json!({"path": at("hard"), "state": "hard", "src": at("a")})),
        ("file", json!({"path": at("touched"), "state": "touch", "modification_time": "202001020304.05"})),
        ("file", json!({"path": at("d"), "state": "absent"})),
        ("fetch", json!({"src": at("a"), "dest": format!("{}/home/", top.path().display()), "flat": true})),
        ("find", json!({"paths": at(""), "recurse": true, "age": "-1h", "size": "1", "contains": "t", "hidden": true})),
        ("command", json!({"argv": ["echo", "$HOME", "it's"], "chdir": at(""), "creates": at("no*")})),
        ("command", json!({"cmd": "cat", "stdin": "x"})),
        ("shell", json!({"cmd": "echo a", "executable": "/bin/bash", "removes": at("a")})),
        ("stat", json!({"path": at("a"), "get_checksum": true, "checksum_algorithm": "sha256", "get_mime": true})),
        ("setup", json!({"gather_subset": ["all"]})),
        ("wait_for", json!({"path": at("a"), "search_regex": "te(x)t", "timeout": 5})),
        ("tempfile", json!({"state": "directory", "suffix": "'x"})),
    ]);
    for (module, given) in cases {
        call(&world, module, given).await;
    }
    drop(world);
    // What is run as root reads its script from its input, so many lines; the loop of the shell then gets requests: a nonce, how the
    // script is sent, how long it is.
    let lines = regex::Regex::new(r"; k=(\d+); while ").unwrap();
    let request = regex::Regex::new(r"(?m)^@@[0-9a-f]{32} ([lb]) (\d+)(?: a)?\n").unwrap();
    let first = |text: &str, count: usize| -> String { text.split_inclusive('\n').take(count).collect() };
    let mut scripts: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(&kept).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "sh") {
            continue;
        }
        let argument = std::fs::read_to_string(&path).unwrap();
        let input = String::from_utf8_lossy(&std::fs::read(path.with_extension("in")).unwrap()).into_owned();
        if let Some(found) = lines.captures(&argument) {
            scripts.insert(first(&input, found[1].parse().unwrap()));
        }
        for found in request.captures_iter(&input) {
            let (length, rest) = (found[2].parse().unwrap(), &input[found.get(0).unwrap().end()..]);
            scripts.insert(if &found[1] == "b" { rest[..length].to_owned() } else { first(rest, length) });
        }
        scripts.insert(argument);
    }
    assert!(scripts.len() > 30, "only {} scripts were seen", scripts.len());
    let mut wrong = Vec::new();
    for (number, script) in scripts.iter().enumerate() {
        let file = top.path().join(format!("script{number}"));
        std::fs::write(&file, script).unwrap();
        let said = std::process::Command::new("shellcheck")
            // No mistake: a loop over what may be a glob and here is one name (2043), names that the loop of the shell gave (2154).
            .args(["-s", "sh", "-S", "warning", "-e", "2043,2154", "-f", "gcc"])
            .arg(&file)
            .output()
            .expect("shellcheck");
        if !said.status.success() {
            wrong.push(format!("{}\n{script}\n", String::from_utf8_lossy(&said.stdout)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), scripts.len(), wrong.join("\n"));
}
