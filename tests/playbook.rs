//! The playbook language, carried out on this machine without a connection: order, recap, exit code, in Ansible's form.
//!
//! With `FERRY_LONG=1` the same playbooks, and generated ones, run under ansible-core 2.19.14 as well (the folder that
//! `tests/conformance/run` makes), and both must say the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn clean(command: &mut Command, home: &Path) {
    for (name, _) in std::env::vars() {
        if name.starts_with("ANSIBLE_") || name.starts_with("FERRY_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", home)
        .env("XDG_DATA_HOME", home.join("data"))
        .env("ANSIBLE_NOCOWS", "1")
        .env("ANSIBLE_FORCE_COLOR", "0")
        .env("ANSIBLE_DEPRECATION_WARNINGS", "false")
        .env("ANSIBLE_LOCALHOST_WARNING", "False")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(home);
}

fn said(command: &mut Command) -> Said {
    let output = command.output().expect("it starts");
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn ferry(home: &Path, compat: bool, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    clean(&mut command, home);
    if compat {
        command.env("FERRY_COMPAT", "ansible");
    }
    said(command.args(["run", "-i", "a,b,c", "-c", "local"]).args(args))
}

fn oracle(home: &Path, args: &[&str]) -> Option<Said> {
    let cache = std::env::var_os("CONFORMANCE_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/ferry-conformance")))?;
    let program = cache.join("venv/bin/ansible-playbook");
    assert!(program.is_file(), "{}: run tests/conformance/run ping once, which makes it", program.display());
    let mut command = Command::new(program);
    clean(&mut command, home);
    command.env("ANSIBLE_PYTHON_INTERPRETER", cache.join("venv/bin/python"));
    Some(said(command.args(["-i", "a,b,c", "-c", "local"]).args(args)))
}

/// Banners and what came of each host, without results; hosts of one task sorted, for they end in any order.
fn story(out: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut of_task: Vec<String> = Vec::new();
    let flush = |of_task: &mut Vec<String>, all: &mut Vec<String>| {
        of_task.sort();
        all.append(of_task);
    };
    for line in out.lines() {
        let banner = ["PLAY", "TASK", "RUNNING HANDLER", "NO MORE HOSTS"].iter().any(|word| line.starts_with(word));
        if banner {
            flush(&mut of_task, &mut all);
            all.push(line.trim_end_matches(['*', ' ']).to_owned());
        } else if line.contains(" : ok=") || line.starts_with("included: ") || line.starts_with("FAILED - RETRYING") {
            of_task.push(line.trim_end().to_owned());
        } else if ["ok: ", "changed: ", "skipping: ", "failed: ", "fatal: "].iter().any(|word| line.starts_with(word)) {
            let head = match line.split_once(" => {") {
                Some((head, _)) => head,
                None => line,
            };
            of_task.push(head.trim_end().to_owned());
        } else if line == "...ignoring" || line.starts_with("skipping: no hosts") {
            of_task.push(line.to_owned());
        }
    }
    flush(&mut of_task, &mut all);
    // Ansible has a title for each host of a meta task (docs/ansible.md).
    all.retain(|line| !line.starts_with("TASK [meta"));
    let mut play = false;
    all.retain(|line| {
        // What stands below a play's title and no task's is of such a task.
        let meta = play && line.starts_with("skipping: [");
        play = line.starts_with("PLAY [") || meta;
        !meta
    });
    all
}

/// A playbook's name, further arguments, its text, its exit code, and what the recap says of host a (ok, changed, unreachable,
/// failed, skipped, rescued, ignored).
type Case = (&'static str, &'static [&'static str], &'static str, i32, [u64; 7]);

const CASES: &[Case] = &[
    (
        "blocks",
        &[],
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - block:\n        - command: 'true'\n        - fail:\n        - debug:\n      rescue:\n        - debug: msg=\"{{ ansible_failed_task.name }}\"\n      always:\n        - debug: msg=x\n    - debug: msg=after\n",
        0,
        [4, 1, 0, 0, 0, 1, 0],
    ),
    (
        "a_block_that_is_not_mended",
        &[],
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - block:\n        - fail:\n          when: inventory_hostname == 'a'\n      always:\n        - debug: msg=always\n    - debug: msg=after\n- hosts: all\n  gather_facts: false\n  tasks: [{debug: {msg: second}}]\n",
        2,
        [1, 0, 0, 1, 0, 0, 0],
    ),
    (
        "loops",
        &[],
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - debug: msg={{ item }}\n      loop: [1, 2, 3]\n      when: item != 2\n    - debug: msg=\"{{ item.key }}={{ item.value }}\"\n      with_dict: {x: 1, y: 2}\n    - debug: msg={{ item }}\n      loop: []\n    - command: echo {{ n }}\n      loop: [a, b]\n      loop_control: {loop_var: n, index_var: i, label: \"no {{ i }}\"}\n      register: r\n      changed_when: i == 1\n    - assert:\n        that: [r.results | length == 2, \"r.results[1].stdout == 'b'\", r is changed, \"r.results[0] is not changed\"]\n",
        0,
        [4, 1, 0, 0, 1, 0, 0],
    ),
    (
        "handlers",
        &[],
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - command: 'true'\n      notify: [second, topic]\n    - meta: flush_handlers\n    - command: 'true'\n      notify: first\n    - command: 'true'\n      changed_when: false\n      notify: second\n  handlers:\n    - name: first\n      debug: msg=first\n    - name: second\n      debug: msg=second\n    - name: third\n      listen: topic\n      debug: msg=third\n",
        0,
        [6, 2, 0, 0, 0, 0, 0],
    ),
    (
        "forced_handlers",
        &["--force-handlers"],
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - command: 'true'\n      notify: h\n    - fail:\n  handlers:\n    - name: h\n      debug:\n",
        2,
        [2, 1, 0, 1, 0, 0, 0],
    ),
    (
        "tags",
        &["--tags", "x,never1", "--skip-tags", "y"],
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - debug: msg=1\n      tags: x\n    - debug: msg=2\n    - debug: msg=3\n      tags: [x, y]\n    - debug: msg=4\n      tags: always\n    - debug: msg=5\n      tags: [never, never1]\n    - block:\n        - debug: msg=6\n      tags: x\n",
        0,
        [4, 0, 0, 0, 0, 0, 0],
    ),
    (
        "batches",
        &[],
        "- hosts: all\n  gather_facts: false\n  serial: [1, 2]\n  tasks:\n    - debug: msg=\"{{ ansible_play_batch | join(',') }}\"\n    - command: 'true'\n      run_once: true\n      register: r\n    - assert: {that: r is changed}\n",
        0,
        [3, 1, 0, 0, 0, 0, 0],
    ),
    (
        "one_error_ends_it_for_all",
        &[],
        "- hosts: all\n  gather_facts: false\n  any_errors_fatal: true\n  tasks:\n    - fail:\n      when: inventory_hostname == 'b'\n    - debug:\n- hosts: all\n  gather_facts: false\n  tasks: [{debug: }]\n",
        2,
        [0, 0, 0, 0, 1, 0, 0],
    ),
    (
        "too_many_fail",
        &[],
        "- hosts: all\n  gather_facts: false\n  max_fail_percentage: 30\n  tasks:\n    - fail:\n      when: inventory_hostname == 'b'\n    - debug:\n",
        2,
        [0, 0, 0, 0, 1, 0, 0],
    ),
    (
        "tries",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - command: echo x\n      register: r\n      until: r.stdout == 'y'\n      retries: 2\n      delay: 0\n      ignore_errors: true\n    - assert: {that: [r.attempts == 2, r is failed]}\n    - command: echo y\n      register: r\n      until: r.stdout == 'y'\n      delay: 0\n    - assert: {that: [r.attempts == 1, r is not failed]}\n",
        0,
        [4, 2, 0, 0, 0, 0, 1],
    ),
    (
        "what_counts_as_failed",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - command: 'false'\n      register: r\n      failed_when: r.rc > 1\n    - assert: {that: [r is not failed, r.failed_when_result == false]}\n    - command: 'true'\n      failed_when: true\n      ignore_errors: true\n    - command: 'true'\n      changed_when: [true, false]\n    - fail: msg=stop\n",
        2,
        [4, 2, 0, 1, 0, 0, 1],
    ),
    (
        "delegated",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - command: echo {{ inventory_hostname }}\n      delegate_to: b\n      register: r\n    - set_fact: {x: 5}\n      delegate_to: b\n      delegate_facts: true\n    - assert: {that: [r.stdout == 'a', hostvars.b.x == 5, x is not defined]}\n    - local_action: command true\n",
        0,
        [4, 2, 0, 0, 0, 0, 0],
    ),
    (
        "meta",
        &[],
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - meta: end_host\n      when: inventory_hostname == 'a'\n    - debug:\n    - meta: end_play\n    - fail:\n- hosts: all\n  gather_facts: false\n  tasks: [{debug: }]\n",
        0,
        [1, 0, 0, 0, 0, 0, 0],
    ),
    (
        "no_log",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - command: echo hidden-word\n      no_log: true\n      register: r\n    - assert: {that: r.stdout == 'hidden-word'}\n",
        0,
        [2, 1, 0, 0, 0, 0, 0],
    ),
    (
        "items_are_hidden",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - debug: msg=x\n      loop: [hidden-word, hidden-word-2]\n      when: \"'2' in item\"\n      no_log: true\n    - debug: msg=x\n      loop: [hidden-word]\n      no_log: true\n      register: r\n      until: r is failed\n      retries: 1\n      delay: 0\n      ignore_errors: true\n",
        0,
        [2, 0, 0, 0, 0, 0, 1],
    ),
    (
        "an_include_is_read_whole_before_it_runs",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - include_tasks: \"{{ item }}.yml\"\n      loop: [inner, inner]\n    - include_tasks: \"{{ item }}.yml\"\n      loop: [inner, nowhere]\n    - debug: msg=never\n",
        2,
        [5, 0, 0, 1, 0, 0, 0],
    ),
    (
        "names_are_as_they_are_written",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug: {msg: x}\n    - ansible.legacy.command: echo x\n    - block:\n        - ansible.builtin.fail:\n      rescue:\n        - debug: {msg: \"<{{ ansible_failed_task.name }}|{{ ansible_failed_task.action }}>\"}\n    - debug: {msg: {\"{{ inventory_hostname }}\": 1}}\n    - raw: echo r\n      register: r\n    - debug: {msg: \"{{ r.stdout | to_json }}\"}\n",
        0,
        [6, 2, 0, 0, 0, 1, 0],
    ),
    (
        "max_fail_percentage_and_a_rescue",
        &[],
        "- hosts: all\n  gather_facts: false\n  max_fail_percentage: 30\n  tasks:\n    - block:\n        - fail:\n          when: inventory_hostname != 'a'\n      rescue:\n        - debug: msg=mended\n    - debug: msg=after\n    - fail:\n      when: inventory_hostname == 'b'\n    - debug: msg=never\n- hosts: all\n  gather_facts: false\n  tasks: [{debug: {msg: second}}]\n",
        2,
        [1, 0, 0, 0, 2, 0, 0],
    ),
    (
        "who_failed_for_good_and_was_cleared_is_in_the_next_play",
        &[],
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - fail:\n      when: inventory_hostname == 'a'\n    - meta: clear_host_errors\n    - debug: msg=others\n- hosts: all\n  gather_facts: false\n  tasks: [{debug: {msg: second}}]\n",
        0,
        [1, 0, 0, 1, 0, 0, 0],
    ),
    (
        "always_wins_over_never",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - tags: always\n      block:\n        - debug: msg=x\n          tags: never\n    - debug: msg=y\n      tags: never\n",
        0,
        [1, 0, 0, 0, 0, 0, 0],
    ),
    (
        "what_debug_shows",
        &[],
        "- hosts: a\n  gather_facts: false\n  vars: {x: y, y: 1}\n  tasks:\n    - debug: {var: '{{ x }}'}\n      register: r\n    - command: echo y\n      register: said\n    - debug: {var: '{{ said.stdout }}'}\n      ignore_errors: true\n    - debug: {var: nowhere}\n      register: nope\n    - assert: {that: [r.y == 1, \"'is undefined' in nope.nowhere\"]}\n",
        0,
        [5, 1, 0, 0, 0, 0, 1],
    ),
    (
        "lines_that_go_on",
        &[],
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - shell: |\n        echo one \\\n          two\n        echo \"a \\\n        b\"\n      register: r\n    - assert: {that: [\"r.stdout_lines == ['one two', 'a b']\", \"r.cmd.endswith('\\n')\"]}\n    - command: 'true'\n      register: t\n      until: false\n      retries: 2\n      delay: 0\n      failed_when: t.attempts > 5\n",
        0,
        [3, 2, 0, 0, 0, 0, 0],
    ),
    (
        "free",
        &[],
        "- hosts: a\n  gather_facts: false\n  strategy: free\n  tasks:\n    - command: 'true'\n      notify: h\n    - debug:\n  handlers: [{name: h, debug: }]\n",
        0,
        [3, 1, 0, 0, 0, 0, 0],
    ),
    (
        "environment_and_defaults",
        &[],
        "- hosts: a\n  gather_facts: false\n  environment: {ONE: '1', TWO: '2'}\n  module_defaults: {debug: {msg: from defaults}, ansible.builtin.command: {chdir: /}}\n  tasks:\n    - shell: echo $ONE$TWO$PWD\n      environment: {TWO: '3'}\n      register: r\n      args: {chdir: /}\n    - command: pwd\n      register: p\n    - debug:\n      register: d\n    - assert: {that: [r.stdout == '13/', p.stdout == '/', d.msg == 'from defaults']}\n",
        0,
        [4, 2, 0, 0, 0, 0, 0],
    ),
];

fn recap_of(out: &str, host: &str) -> Vec<u64> {
    let line = out.lines().rfind(|line| line.starts_with(&format!("{host} ")) && line.contains(" : ok="));
    let line = line.unwrap_or_else(|| panic!("no recap of {host} in {out}"));
    line.split_whitespace().filter_map(|word| word.split_once('=')?.1.parse().ok()).collect()
}

#[test]
fn playbooks_mean_what_they_mean_to_ansible() {
    let mut wrong: Vec<String> = Vec::new();
    let long = std::env::var_os("FERRY_LONG").is_some();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("inner.yml"), "- debug: {msg: inner}\n").unwrap();
    for (name, args, text, code, recap) in CASES {
        let path = home.path().join(format!("{name}.yml"));
        std::fs::write(&path, text).unwrap();
        let file = path.display().to_string();
        let all: Vec<&str> = args.iter().copied().chain([file.as_str()]).collect();
        let mine = ferry(home.path(), true, &all);
        assert_eq!(mine.code, *code, "{name}: {}{}", mine.out, mine.err);
        assert_eq!(recap_of(&mine.out, "a"), recap, "{name}: {}{}", mine.out, mine.err);
        assert!(!mine.out.contains("hidden-word"), "{name}: {}", mine.out);
        if long {
            let theirs = oracle(home.path(), &all).unwrap();
            let (ours, theirs) = ((mine.code, story(&mine.out)), (theirs.code, story(&theirs.out)));
            if ours != theirs {
                wrong.push(format!("{name}:\nferry   {ours:?}\nansible {theirs:?}\n"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn write(home: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn roles_includes_and_the_order_of_variables() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[
            (
                "site.yml",
                "- hosts: a\n  gather_facts: false\n  vars: {level: play, from: play}\n  vars_files: [more.yml]\n  roles:\n    - {role: web, www: 80, tags: web}\n  tasks:\n    - import_tasks: tasks/one.yml\n      vars: {given: imported}\n    - include_tasks: \"tasks/{{ which }}.yml\"\n      loop: [x, y]\n      loop_control: {loop_var: turn}\n      vars: {which: two, given: included}\n    - include_role: {name: web, tasks_from: other}\n      vars: {www: 81}\n    - assert: {that: [level == 'vars_files', web_default is defined]}\n",
            ),
            ("more.yml", "level: vars_files\n"),
            ("tasks/one.yml", "- assert: {that: given == 'imported'}\n"),
            (
                "tasks/two.yml",
                "- assert: {that: [given == 'included', \"turn in ['x', 'y']\"]}\n- command: 'true'\n  notify: from role\n",
            ),
            ("roles/web/defaults/main.yml", "web_default: d\nfrom: defaults\nwww: 1\n"),
            ("roles/web/vars/main.yml", "role_var: v\n"),
            ("roles/web/meta/main.yml", "dependencies: [{role: base}]\n"),
            (
                "roles/web/tasks/main.yml",
                "- name: in the role\n  assert: {that: [www == 80, from == 'play', role_var == 'v', role_name == 'web', base_done]}\n",
            ),
            ("roles/web/tasks/other.yml", "- assert: {that: www == 81}\n"),
            ("roles/web/handlers/main.yml", "- name: from role\n  debug: msg=handled\n"),
            ("roles/base/tasks/main.yml", "- set_fact: {base_done: true}\n"),
        ],
    );
    let mine = ferry(home.path(), true, &["site.yml"]);
    assert_eq!(mine.code, 0, "{}{}", mine.out, mine.err);
    for line in [
        "TASK [base : set_fact]",
        "TASK [web : in the role]",
        "tasks/two.yml for a => (item=x)",
        "tasks/two.yml for a => (item=y)",
        "included: web for a",
        "RUNNING HANDLER [web : from role]",
    ] {
        assert!(mine.out.contains(line), "{line}: {}", mine.out);
    }
    let order: Vec<usize> = ["[base : set_fact]", "[web : in the role]", "(item=x)", "(item=y)", "included: web"]
        .iter()
        .map(|part| mine.out.find(part).unwrap())
        .collect();
    assert!(order.is_sorted(), "{}", mine.out);
    let listed = ferry(home.path(), true, &["site.yml", "--list-tasks", "--list-hosts"]);
    assert!(listed.out.contains("\nplaybook: site.yml\n\n  play #1 (a): a\tTAGS: []\n    pattern: ['a']\n    hosts (1):\n      a\n    tasks:\n      set_fact\tTAGS: [web]\n      web : in the role\tTAGS: [web]\n"), "{}", listed.out);
    if std::env::var_os("FERRY_LONG").is_some() {
        let theirs = oracle(home.path(), &["site.yml", "--list-tasks", "--list-hosts"]).unwrap();
        assert_eq!(
            theirs.out.contains("      set_fact\tTAGS: [web]"),
            listed.out.contains("      set_fact\tTAGS: [web]")
        );
    }
    // What is asked for with -e wins over everything.
    let mine = ferry(home.path(), true, &["site.yml", "-e", "www=7"]);
    assert_eq!(mine.code, 2, "{}", mine.out);
}

/// All that lies in a folder and below it.
fn everything_in(folder: &Path) -> String {
    let mut out = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.push_str(&everything_in(&path));
        } else {
            out.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
        }
    }
    out
}

/// `become` or `environment` at a role, an import or a block around it are said of the role's handlers as well.
#[test]
fn what_stands_around_a_role_is_said_of_its_handlers() {
    let home = tempfile::tempdir().unwrap();
    let site = |body: &str| format!("- hosts: a\n  gather_facts: false\n  environment: {{P: play}}\n{body}");
    write(
        home.path(),
        &[
            ("roles/r/tasks/main.yml", "- debug: {msg: x}\n  changed_when: true\n  notify: say\n"),
            (
                "roles/r/handlers/main.yml",
                "- name: say\n  shell: echo $P-$A-{{ v | default('none') }}\n  environment: {H: own}\n  register: said\n",
            ),
            ("roles/over/meta/main.yml", "dependencies: [{role: r, v: dep}]\n"),
            ("roles/over/tasks/main.yml", "- debug: {msg: over}\n"),
            ("imports.yml", "- import_role: {name: r}\n"),
            ("includes.yml", "- include_role: {name: r}\n"),
        ],
    );
    for (body, wanted) in [
        ("  roles:\n    - {role: r, environment: {A: role}, v: 1}\n", "play-role-1"),
        ("  roles:\n    - {role: over, environment: {A: over}}\n", "play-over-dep"),
        (
            "  tasks:\n    - import_role: {name: r}\n      environment: {A: import}\n      vars: {v: 2}\n",
            "play-import-2",
        ),
        (
            "  tasks:\n    - block:\n        - import_role: {name: r}\n      environment: {A: block}\n      vars: {v: 3}\n",
            "play-block-3",
        ),
        (
            "  tasks:\n    - include_role:\n        name: r\n        apply: {environment: {A: apply}}\n      vars: {v: 4}\n",
            "play-apply-4",
        ),
        (
            "  tasks:\n    - block:\n        - include_role: {name: r}\n      environment: {A: around}\n",
            "play-around-none",
        ),
        ("  tasks:\n    - import_tasks: imports.yml\n      environment: {A: file}\n", "play-file-none"),
        (
            "  tasks:\n    - include_tasks: {file: includes.yml, apply: {environment: {A: late}}}\n      vars: {v: 5}\n",
            "play-late-5",
        ),
    ] {
        let check = "  post_tasks:\n    - meta: flush_handlers\n    - debug: {var: said.stdout}\n";
        write(home.path(), &[("site.yml", &site(&format!("{body}{check}")))]);
        let mine = ferry(home.path(), true, &["site.yml"]);
        assert_eq!(mine.code, 0, "{body}: {}{}", mine.out, mine.err);
        assert!(mine.out.contains(&format!("\"said.stdout\": \"{wanted}\"")), "{body}: {}", mine.out);
    }
}

/// Small things that operators' playbooks rely on, each as ansible-core has it.
#[test]
fn what_playbooks_of_strangers_rely_on() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[
            ("host_vars/b.yml", "colour: blue\n"),
            ("host_vars/a.yml", "colour: red\n"),
            ("roles/r/tasks/main.yml", "- debug: {msg: main}\n"),
            ("roles/r/tasks/sub/deep.yml", "- include_tasks: near.yml\n"),
            ("roles/r/tasks/sub/beside.yml", "- import_tasks: near.yml\n"),
            ("roles/r/tasks/sub/near.yml", "- set_fact: {near: sub}\n"),
            ("roles/r/tasks/near.yml", "- set_fact: {near: top}\n"),
        ],
    );
    for (name, tasks) in [
        (
            "the host that a task is delegated to",
            "    - assert:\n        quiet: true\n        that:\n          - ansible_delegated_vars['b'].colour == 'blue'\n          - ansible_delegated_vars.keys() | list == ['b']\n          - ansible_delegated_vars['b'].inventory_hostname == 'a'\n          - colour == 'red'\n      delegate_to: b\n      when: ansible_delegated_vars['b'].ansible_host == 'b'\n      register: asserted\n    - assert: {that: [asserted is not skipped, ansible_delegated_vars is undefined]}\n",
        ),
        (
            "a condition over what async gives is true or false",
            "    - command: echo x\n      async: 300\n      poll: 0\n      register: j\n    - assert: {that: [j.started, not j.finished, j.started == 1]}\n    - async_status: {jid: \"{{ j.ansible_job_id }}\"}\n      register: s\n      until: s.finished\n      retries: 100\n      delay: 0.2\n    - assert: {that: [s.finished, s.stdout == 'x']}\n    - async_status: {jid: \"{{ j.ansible_job_id }}\", mode: cleanup}\n",
        ),
        (
            "an include in a role takes the role's own file first, an import the one beside it",
            "    - import_role: {name: r, tasks_from: sub/deep.yml}\n    - assert: {that: near == 'top'}\n    - include_role: {name: r, tasks_from: sub/deep.yml}\n    - assert: {that: near == 'top'}\n    - import_role: {name: r, tasks_from: sub/beside.yml}\n    - assert: {that: near == 'sub'}\n",
        ),
        (
            "loops by a lookup's full name, and what a turn of a loop leaves",
            "    - debug: {msg: x}\n      with_ansible.builtin.items: [[1], 2]\n      loop_control: {extended: true}\n      register: r\n    - assert: {that: [r.results | length == 2, \"r.results[1].ansible_loop.last\"]}\n",
        ),
    ] {
        let text = format!("- hosts: a\n  gather_facts: false\n  tasks:\n{tasks}");
        write(home.path(), &[("p.yml", &text)]);
        let mine = ferry(home.path(), false, &["p.yml"]);
        assert_eq!(mine.code, 0, "{name}: {}{}", mine.out, mine.err);
    }
    // Who is nobody takes nothing from the others, and is told once.
    let play = |hosts: &str| format!("- hosts: {hosts}\n  gather_facts: false\n  tasks: [{{debug: {{msg: x}}}}]\n");
    write(home.path(), &[("p.yml", &format!("{0}{0}", play("a,nobody")))]);
    let mine = ferry(home.path(), true, &["p.yml", "-l", "a,b,noone"]);
    assert_eq!((mine.code, mine.out.matches("ok: [a]").count()), (0, 2), "{}{}", mine.out, mine.err);
    for name in ["nobody", "noone"] {
        let told = format!("Could not match supplied host pattern, ignoring: {name}");
        assert_eq!(mine.err.matches(&told).count(), 1, "{}", mine.err);
    }
    assert_eq!(ferry(home.path(), false, &["p.yml"]).code, 6);
    // What is shown of an assertion, and of what changes about a file.
    let tasks = "    - assert: {that: true, quiet: true}\n    - file: {path: f, state: touch, mode: '0644'}\n    - file: {path: f, mode: '0600'}\n    - copy: {content: 'new', dest: f, mode: '0600'}\n    - assert: {that: 1 == 2}\n";
    write(home.path(), &[("p.yml", &format!("- hosts: a\n  gather_facts: false\n  tasks:\n{tasks}"))]);
    let mine = ferry(home.path(), true, &["p.yml", "-D"]);
    assert_eq!(mine.code, 2, "{}{}", mine.out, mine.err);
    for wanted in [
        "ok: [a]\n",
        "-    \"mode\": \"0644\",\n+    \"mode\": \"0600\",\n     \"path\": \"f\"\n",
        "@@ -0,0 +1 @@\n+new\n\\ No newline at end of file\n",
        "fatal: [a]: FAILED! => {\n    \"assertion\": \"1 == 2\",\n",
    ] {
        assert!(mine.out.contains(wanted), "{wanted}: {}", mine.out);
    }
    assert!(!mine.out.contains("All assertions passed"), "{}", mine.out);
}

#[test]
fn what_is_hidden_stands_nowhere() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[
            (
                "p.yml",
                "- hosts: a\n  gather_facts: false\n  no_log: true\n  tasks:\n    - command: echo {{ item }}\n      loop: [hidden-word]\n    - debug: msg=x\n      loop: [hidden-word]\n      when: false\n    - include_tasks: more.yml\n      loop: [hidden-word]\n      when: false\n    - shell: echo {{ item }}; exit 1\n      loop: [hidden-word]\n      register: r\n      until: r is success\n      retries: 1\n      delay: 0\n",
            ),
            ("more.yml", "- debug: msg=x\n"),
            ("password", "pw\n"),
            // No mapping, and no YAML: what they are instead is not said either.
            ("sealed/group_vars/all/list.yml", "hidden-word\n"),
            ("broken/group_vars/all/broken.yml", "a: hidden-word\n- another hidden-word\n"),
            ("sealed/p.yml", "- hosts: a\n  gather_facts: false\n  tasks: [{debug: }]\n"),
            ("broken/p.yml", "- hosts: a\n  gather_facts: false\n  tasks: [{debug: }]\n"),
            (
                "vars.yml",
                "- hosts: a\n  gather_facts: false\n  tasks: [{include_vars: sealed/group_vars/all/list.yml}]\n",
            ),
        ],
    );
    for file in ["sealed/group_vars/all/list.yml", "broken/group_vars/all/broken.yml"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        clean(&mut command, home.path());
        let done = said(command.args(["vault", "encrypt", "--vault-password-file", "password", file]));
        assert_eq!(done.code, 0, "{}", done.err);
    }
    for compat in [true, false] {
        for name in ["p.yml", "vars.yml", "sealed/p.yml", "broken/p.yml"] {
            let mine = ferry(home.path(), compat, &[name, "-vvv", "--vault-password-file", "password"]);
            assert!(mine.code != 0, "{name}: {}{}", mine.out, mine.err);
            let all = mine.out + &mine.err;
            assert!(!all.contains("hidden-word"), "{name}, compat {compat}: {all}");
        }
    }
    assert!(!everything_in(&home.path().join("data")).contains("hidden-word"), "a run keeps it");
}

#[test]
fn what_ferry_has_not_is_refused_before_any_host_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let mark = home.path().join("touched");
    let first = format!("    - command: touch {}\n", mark.display());
    for (tasks, said) in [
        ("    - apt: name=x\n", "known to Ansible and not built yet"),
        ("    - community.general.x: {}\n", "is neither a key of a task nor a module"),
        ("    - debug: {msg: x}\n      debugger: always\n", "the debugger of Ansible is not built"),
        ("    - debug: {msg: x}\n      with_url: x\n", "with_url"),
        ("    - import_tasks: nowhere.yml\n", "nowhere.yml"),
        ("    - import_role: {name: nowhere}\n", "the role \"nowhere\" is not there"),
        ("    - meta: dance\n", "there is no meta"),
        ("    - import_tasks: x.yml\n      loop: [1]\n", "cannot be repeated"),
        ("    - debug: {msg: x}\n      register: no\n", "register is text"),
        ("    - include_role: {name: r}\n      become: true\n", "\"become\" says nothing at include_role"),
        ("    - include_tasks: x.yml\n      environment: {A: b}\n", "\"environment\" says nothing at include_tasks"),
        ("    - include_tasks: x.yml\n      notify: h\n", "\"notify\" says nothing at include_tasks"),
    ] {
        let text = format!("- hosts: a\n  gather_facts: false\n  tasks:\n{first}{tasks}");
        std::fs::write(home.path().join("p.yml"), text).unwrap();
        let mine = ferry(home.path(), false, &["p.yml"]);
        assert_eq!(mine.code, 1, "{tasks}: {}{}", mine.out, mine.err);
        assert!(mine.err.contains(said) && mine.err.contains("p.yml:"), "{tasks}: {}", mine.err);
        assert!(!mark.exists(), "{tasks}");
    }
}

/// Every key of an ansible.cfg that ferry knows changes what happens, or is told.
#[test]
fn keys_of_ansible_cfg_are_done_or_told() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[
            ("data/cfg/roles/r/tasks/main.yml", "- debug: {msg: from-a-role-of-the-cfg}\n  tags: [one]\n"),
            (
                "data/cfg/ansible.cfg",
                "[defaults]\nroles_path = roles\ngathering = explicit\nlog_path = run.log\nerror_on_undefined_vars = no\nstrategy = mitogen_linear\ntask_timeout = 4\ndisplay_skipped_hosts = no\nremote_tmp = /x\nforce_handlers = yes\nhash_behaviour = merge\n[tags]\nskip = never_this\n[diff]\nalways = yes\n",
            ),
            (
                "p.yml",
                "- hosts: localhost\n  vars: {a: {x: 1}}\n  roles: [r]\n  tasks:\n  - debug: {msg: skipped-by-tag}\n    tags: [never_this]\n  - debug: {msg: skipped-by-when}\n    when: false\n  - copy: {content: \"new\\n\", dest: data/made}\n  - debug: {msg: \"joined {{ a.x }}{{ a.y }}\"}\n    vars: {a: {y: 2}}\n  - command: sleep 9\n    ignore_errors: true\n  - command: 'true'\n    notify: h\n  - fail: {msg: at-last}\n  handlers:\n  - name: h\n    debug: {msg: handler-although-failed}\n",
            ),
        ],
    );
    let config = home.path().join("data/cfg/ansible.cfg");
    let run = |verbose: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        clean(&mut command, home.path());
        command.args(["run", verbose, "p.yml"]).env("ANSIBLE_CONFIG", &config).env("FERRY_COMPAT", "ansible");
        said(&mut command)
    };
    let ran = run("--diff");
    let all = format!("{}{}", ran.out, ran.err);
    assert_eq!(ran.code, 2, "{all}");
    for wanted in ["from-a-role-of-the-cfg", "joined 12", "+new", "Timed out after 4 second", "handler-although-failed"]
    {
        assert!(ran.out.contains(wanted), "{wanted}: {all}");
    }
    for not in ["Gathering Facts", "skipped-by-tag", "skipping:", "remote_tmp"] {
        assert!(!all.contains(not), "{not}: {all}");
    }
    for told in ["error_on_undefined_vars = no is not built", "strategy = mitogen_linear is not built"] {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    assert!(run("-v").err.contains("defaults.remote_tmp is not used"));
    let log = std::fs::read_to_string(home.path().join("data/cfg/run.log")).unwrap();
    assert!(log.lines().all(|line| line.contains(" n=ferry ") && line.starts_with("20")), "{log}");
    assert!(
        log.contains("| TASK [r : debug]") && log.contains("WARNING| [WARNING]: ") && log.contains("PLAY RECAP"),
        "{log}"
    );
}

/// What a role says of its arguments is held against them before its own tasks, whatever tags are asked for; a copy in
/// meta/main counts only where there is no file of its own.
#[test]
fn a_role_that_says_what_it_takes_is_asked_for_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[
            (
                "roles/r/meta/argument_specs.yml",
                "argument_specs:\n  main:\n    short_description: What r takes\n    options:\n      size: {type: int, required: true}\n      colour: {choices: [red, green]}\n  other: {short_description: nothing}\n",
            ),
            ("roles/r/meta/main.yml", "argument_specs: {main: {options: {never: {required: true}}}}\n"),
            ("roles/r/tasks/main.yml", "- debug: {msg: \"size {{ size }}\"}\n"),
            ("roles/r/tasks/other.yml", "- debug: {msg: other}\n"),
            (
                "good.yml",
                "- hosts: localhost\n  gather_facts: false\n  roles: [{role: r, size: '7'}]\n  tasks:\n  - import_role: {name: r, tasks_from: other}\n",
            ),
            (
                "bad.yml",
                "- hosts: localhost\n  gather_facts: false\n  tasks:\n  - block:\n    - include_role: {name: r}\n      vars: {size: many, colour: \"{{ 'blue' }}\"}\n    rescue:\n    - debug: {msg: \"{{ ansible_failed_task.name }}: {{ ansible_failed_result.argument_errors | length }}\"}\n  - include_role: {name: r, rolespec_validate: false}\n    vars: {size: many}\n",
            ),
        ],
    );
    let good = ferry(home.path(), true, &["good.yml"]);
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    for said in [
        "TASK [r : Validating arguments against arg spec 'main' - What r takes]",
        "size 7",
        "arg spec 'other' - nothing]",
    ] {
        assert!(good.out.contains(said), "{said}: {}", good.out);
    }
    let tagged = ferry(home.path(), true, &["good.yml", "--tags", "none"]);
    assert!(tagged.out.contains("Validating arguments") && !tagged.out.contains("size 7"), "{}", tagged.out);
    let bad = ferry(home.path(), true, &["bad.yml"]);
    assert_eq!(bad.code, 0, "{}{}", bad.out, bad.err);
    for said in
        ["arg spec 'main' - What r takes: 2", "value of colour must be one of: red, green, got: blue", "size many"]
    {
        assert!(bad.out.contains(said) || bad.err.contains(said), "{said}: {}{}", bad.out, bad.err);
    }
}

/// Hosts that go on by themselves: nothing of a task that throttles is sent ahead of its turn.
#[test]
fn a_task_that_throttles_is_for_one_host_at_a_time_under_free() {
    let home = tempfile::tempdir().unwrap();
    let lock = home.path().join("lock");
    let text = format!(
        "- hosts: all\n  gather_facts: false\n  strategy: free\n  tasks:\n    - command: 'true'\n    \
         - shell: mkdir {lock} || exit 9; sleep 0.3; rmdir {lock}\n      throttle: 1\n",
        lock = lock.display()
    );
    write(home.path(), &[("p.yml", &text)]);
    let mine = ferry(home.path(), true, &["p.yml"]);
    assert_eq!(mine.code, 0, "{}{}", mine.out, mine.err);
}

#[test]
fn commands_go_on_without_us() {
    let home = tempfile::tempdir().unwrap();
    let jobs = home.path().join("jobs");
    let text = format!(
        "- hosts: a\n  gather_facts: false\n  vars: {{ansible_async_dir: {}}}\n  tasks:\n    \
         - shell: echo out; echo err >&2; exit 3\n      async: 300\n      poll: 1\n      register: waited\n      failed_when: false\n    \
         - assert: {{that: [waited.rc == 3, waited.stdout == 'out', waited.stderr == 'err', waited.finished == 1, waited.started == 1, \"waited.ansible_job_id is match('j[0-9]+[.][0-9]+$')\"]}}\n    \
         - stat: path={{{{ waited.results_file }}}}\n      register: left\n    - assert: {{that: not left.stat.exists}}\n    \
         - shell: sleep 1; cat; echo later; pwd; echo $GIVEN\n      args: {{chdir: /, stdin: words}}\n      environment: {{GIVEN: \"it's\"}}\n      async: 300\n      poll: 0\n      register: begun\n    \
         - assert: {{that: [begun.finished == 0, begun.started == 1, begun is changed, begun is not finished]}}\n    \
         - async_status: jid={{{{ begun.ansible_job_id }}}}\n      register: ended\n      until: ended is finished\n      retries: 100\n      delay: 0.2\n    \
         - assert: {{that: [\"ended.stdout_lines == ['words', 'later', '/', 'it' ~ q ~ 's']\", ended.rc == 0]}}\n      vars: {{q: \"'\"}}\n    \
         - async_status: {{jid: \"{{{{ begun.ansible_job_id }}}}\", mode: cleanup}}\n    \
         - async_status: jid={{{{ begun.ansible_job_id }}}}\n      register: gone\n      failed_when: gone.msg != 'could not find job'\n    \
         - command: sleep 30\n      async: 1\n      poll: 1\n      register: late\n      failed_when: late.msg != 'Timeout exceeded' or late.rc != 137\n    \
         - file: path={}/x state=touch\n      async: 300\n      poll: 0\n      register: other\n      failed_when: \"'poll: 0 is for command and shell' not in other.msg\"\n    \
         - file: path={}/x state=touch\n      async: 300\n      poll: 1\n    \
         - command: 'true'\n      async: 300\n      poll: 1\n",
        jobs.display(),
        home.path().display(),
        home.path().display(),
    );
    write(home.path(), &[("p.yml", &text)]);
    let mine = ferry(home.path(), true, &["p.yml"]);
    assert_eq!(mine.code, 0, "{}{}", mine.out, mine.err);
    assert!(mine.out.contains("ASYNC OK on a: jid=j"), "{}", mine.out);
    let left: Vec<_> = [jobs.join("jobs"), jobs.clone()]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !["jobs", "locks"].contains(&name.as_str()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // A secret would lie on the host's disk.
    let vaulted = home.path().join("pw");
    std::fs::write(&vaulted, "open sesame").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    clean(&mut command, home.path());
    command.args(["vault", "encrypt_string", "--vault-password-file", "pw", "-n", "hidden", "hush-hush-hush"]);
    let secret = said(&mut command);
    let text = "- hosts: a\n  gather_facts: false\n  vars_files: [secret.yml]\n  tasks:\n    - command: echo {{ hidden }}\n      async: 300\n      poll: 0\n";
    write(home.path(), &[("secret.yml", &secret.out), ("s.yml", text)]);
    let mine = ferry(home.path(), false, &["s.yml", "--vault-password-file", "pw"]);
    assert_eq!(mine.code, 7, "{}{}", mine.out, mine.err);
    assert!(
        mine.err.contains("there is a secret in this one") || mine.out.contains("there is a secret in this one"),
        "{}{}",
        mine.out,
        mine.err
    );
}

#[test]
fn what_hosts_say_is_no_condition() {
    let home = tempfile::tempdir().unwrap();
    let mark = home.path().join("touched");
    let text = format!(
        "- hosts: a\n  gather_facts: false\n  vars: {{good: ['1 == 1', x is undefined]}}\n  tasks:\n    \
         - shell: echo \"lookup('pipe', 'touch {}; echo 1') == '1'\"\n      register: told\n    \
         - assert: {{that: '{{{{ told.stdout }}}}'}}\n      register: one\n      ignore_errors: true\n    \
         - assert: {{that: ['{{{{ told.stdout_lines }}}}']}}\n      register: two\n      ignore_errors: true\n    \
         - assert: '{{{{ {{\"that\": told.stdout}} }}}}'\n      register: three\n      ignore_errors: true\n    \
         - assert: {{that: '{{{{ item }}}}'}}\n      loop: '{{{{ told.stdout_lines }}}}'\n      register: four\n      ignore_errors: true\n    \
         - debug:\n      when: '{{{{ told.stdout }}}}'\n      register: five\n      ignore_errors: true\n    \
         - assert: {{that: [one is failed, two is failed, three is failed, four is failed, five is failed]}}\n    \
         - assert: {{that: '{{{{ good }}}}'}}\n",
        mark.display()
    );
    write(home.path(), &[("p.yml", &text)]);
    for compat in [true, false] {
        let mine = ferry(home.path(), compat, &["p.yml"]);
        assert_eq!(mine.code, 0, "{compat}: {}{}", mine.out, mine.err);
        assert!(!mark.exists(), "{}", mine.out);
    }
}

/// Every key of a play, a task and a block that ansible-core 2.19 has is taken or refused by its name, and so is every option of
/// `ansible-playbook`: nothing is passed over.
#[test]
fn every_key_and_option_of_ansibles_is_taken_or_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[
            ("vars.yml", "v: 1\n"),
            ("roles/r/tasks/main.yml", "- debug: {msg: r}\n"),
            ("pw", "x\n"),
            ("base.yml", "- hosts: a\n  gather_facts: false\n  tasks:\n  - debug: {msg: x}\n"),
        ],
    );
    // A secret that others may read is refused.
    let mine = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(home.path().join("pw"), mine).unwrap();
    const COMMON: &[(&str, &str)] = &[
        ("name", "x"),
        ("vars", "{k: 1}"),
        ("tags", "[t, u]"),
        ("become", "false"),
        ("become_user", "root"),
        ("become_method", "sudo"),
        ("become_flags", "-H -S -n"),
        ("become_exe", "sudo"),
        ("connection", "local"),
        ("remote_user", "ops"),
        ("port", "22"),
        ("environment", "{A: b}"),
        ("module_defaults", "{debug: {msg: d}}"),
        ("no_log", "false"),
        ("check_mode", "false"),
        ("diff", "false"),
        ("run_once", "false"),
        ("ignore_errors", "false"),
        ("ignore_unreachable", "false"),
        ("any_errors_fatal", "false"),
        ("throttle", "1"),
        ("timeout", "30"),
        ("collections", "[ansible.builtin]"),
        ("debugger", "never"),
    ];
    const INNER: &[(&str, &str)] =
        &[("when", "true"), ("delegate_to", "a"), ("delegate_facts", "false"), ("notify", "h")];
    const PLAY: &[(&str, &str)] = &[
        ("gather_subset", "[min]"),
        ("gather_timeout", "10"),
        ("fact_path", "/x"),
        ("vars_files", "[vars.yml]"),
        ("vars_prompt", "[{name: p, prompt: q, private: true, default: d, confirm: false, unsafe: false}]"),
        ("pre_tasks", "[{debug: {msg: p}}]"),
        ("roles", "[r]"),
        ("post_tasks", "[{debug: {msg: p}}]"),
        ("serial", "[1, 30%]"),
        ("strategy", "free"),
        ("order", "sorted"),
        ("max_fail_percentage", "30"),
        ("force_handlers", "true"),
        ("validate_argspec", "false"),
    ];
    const TASK: &[(&str, &str)] = &[
        ("args", "{verbosity: 0}"),
        ("register", "r"),
        ("changed_when", "false"),
        ("failed_when", "[false]"),
        ("loop", "[1]"),
        ("with_items", "[1]"),
        (
            "loop_control",
            "{loop_var: l, index_var: i, label: x, pause: 0, extended: true, extended_allitems: false, break_when: [false]}",
        ),
        ("until", "true"),
        ("retries", "2"),
        ("delay", "0"),
        ("async", "0"),
        ("poll", "5"),
    ];
    // What is refused: the key, its value, what is said.
    const REFUSED: &[(&str, &str, &str)] = &[
        ("validate_argspec", "true", "validate_argspec is known to Ansible and not built"),
        ("strategy", "debug", "the strategy debug is not built"),
        ("debugger", "on_failed", "the debugger of Ansible is not built"),
        ("collections", "[ns.col]", "ns.col\" is not built"),
        ("hosts_", "a", "hosts_"),
    ];
    let mut tried = 0;
    let mut check = |what: &str, text: &str, refused: Option<&str>| {
        std::fs::write(home.path().join("p.yml"), text).unwrap();
        let mine = ferry(home.path(), false, &["p.yml", "--syntax-check"]);
        match refused {
            None => assert_eq!(mine.code, 0, "{what}: {}{}", mine.out, mine.err),
            Some(said) => {
                assert_eq!(mine.code, 1, "{what}: {}", mine.out);
                assert!(mine.err.contains(said) && mine.err.contains("p.yml:"), "{what}: {}", mine.err);
            }
        }
        tried += 1;
    };
    let play = |keys: &str| {
        format!(
            "- hosts: a\n  gather_facts: false\n{keys}  tasks:\n  - debug: {{msg: x}}\n  handlers:\n  - name: h\n    listen: [l]\n    debug: {{msg: x}}\n"
        )
    };
    let lines = |keys: &[(&str, &str)], pad: &str| {
        keys.iter().map(|(key, value)| format!("{pad}{key}: {value}\n")).collect::<String>()
    };
    // All of them at once, and so each; a list of tasks cannot be given twice.
    let all: Vec<_> = COMMON.iter().chain(PLAY).copied().collect();
    check("a play", &play(&lines(&all, "  ")), None);
    let handlers = "  handlers:\n  - name: h\n    debug: {msg: x}\n";
    for one in COMMON.iter().chain(INNER).chain(TASK) {
        let task = format!("- hosts: a\n  tasks:\n  - debug: {{msg: x}}\n{}{handlers}", lines(&[*one], "    "));
        check(one.0, &task, None);
    }
    let all: Vec<_> = COMMON.iter().chain(INNER).copied().collect();
    let parts = "  - block: [{debug: {msg: x}}]\n    rescue: [{debug: {msg: x}}]\n    always: [{debug: {msg: x}}]\n";
    check("a block", &format!("- hosts: a\n  tasks:\n{parts}{}{handlers}", lines(&all, "    ")), None);
    for action in [
        "action: debug msg=x",
        "local_action: debug msg=x",
        "ansible.builtin.debug: {msg: x}",
        "ansible.legacy.debug: msg=x",
    ] {
        check(action, &format!("- hosts: a\n  tasks:\n  - {action}\n"), None);
    }
    for (key, value, said) in REFUSED {
        check(key, &play(&format!("  {key}: {value}\n")), Some(said));
    }
    for meta in [
        "flush_handlers",
        "end_play",
        "end_host",
        "end_batch",
        "clear_host_errors",
        "clear_facts",
        "refresh_inventory",
        "reset_connection",
        "noop",
    ] {
        check(meta, &format!("- hosts: a\n  tasks:\n  - meta: {meta}\n"), None);
    }
    for (words, key) in [("loop: [1]\n    register: r\n    tags: x", "register"), ("frobnicate: 1", "frobnicate")] {
        check(key, &format!("- hosts: a\n  tasks:\n  - block: [{{debug: {{msg: x}}}}]\n    {words}\n"), Some(key));
    }
    // Arguments of modules that ansible-core has and ferry has not.
    for (module, given, missing) in [
        ("copy", "content: x, dest: /x", "attributes"),
        ("copy", "content: x, dest: /x", "seuser"),
        ("copy", "content: x, dest: /x", "setype"),
        ("file", "path: /x", "access_time_format"),
        ("file", "path: /x", "modification_time_format"),
        ("file", "path: /x", "selevel"),
        ("template", "src: x, dest: /x", "serole"),
    ] {
        check(missing, &format!("- hosts: a\n  tasks:\n  - {module}: {{{given}, {missing}: x}}\n"), Some(missing));
    }
    assert!(tried > 60, "{tried}");
    let options: &[&[&str]] = &[
        &["-l", "a"],
        &["--limit", "a"],
        &["-e", "k=v"],
        &["-e", "{\"k\": 1}"],
        &["-e", "@vars.yml"],
        &["-t", "x"],
        &["--tags", "x,y"],
        &["--skip-tags", "x"],
        &["-f", "3"],
        &["--forks", "3"],
        &["-C"],
        &["--check"],
        &["-D"],
        &["--diff"],
        &["-b"],
        &["--become"],
        &["--become-method", "sudo"],
        &["--become-user", "root"],
        &["--become-password-file", "pw"],
        &["--become-pass-file", "pw"],
        &["--connection-password-file", "pw"],
        &["--conn-pass-file", "pw"],
        &["-u", "ops"],
        &["--user", "ops"],
        &["--private-key", "pw"],
        &["--key-file", "pw"],
        &["-T", "5"],
        &["--timeout", "5"],
        &["--ssh-common-args", "-o Port=22"],
        &["--ssh-extra-args", "-v"],
        &["--sftp-extra-args", "-v"],
        &["--scp-extra-args", "-v"],
        &["--vault-password-file", "pw"],
        &["--vault-pass-file", "pw"],
        &["--vault-id", "dev@pw"],
        &["-M", "x"],
        &["--module-path", "x"],
        &["--flush-cache"],
        &["--force-handlers"],
        &["--list-hosts"],
        &["--list-tasks"],
        &["--list-tags"],
        &["--step"],
        &["--start-at-task", "debug"],
        &["-v"],
        &["-vvvvvv"],
        &["--verbose"],
        &["--inventory-file", "a,"],
    ];
    for option in options {
        let mut args = option.to_vec();
        args.extend(["--syntax-check", "base.yml"]);
        let mine = ferry(home.path(), false, &args);
        assert_eq!(mine.code, 0, "{option:?}: {}{}", mine.out, mine.err);
    }
    // Each of these asks: without a terminal that is told, with the option that gives it without.
    for option in ["-k", "-K", "-J", "--ask-pass", "--ask-become-pass", "--ask-vault-password", "--ask-vault-pass"] {
        let mine = ferry(home.path(), false, &[option, "--syntax-check", "base.yml"]);
        assert!(mine.code == 1 && mine.err.contains("-file"), "{option}: {}{}", mine.out, mine.err);
    }
}

/// What only some settings, options and words change, each as ansible-core 2.19.14 does it.
#[test]
fn small_things_are_as_in_ansible() {
    let home = tempfile::tempdir().unwrap();
    let at = |text: &str, cfg: &str, args: &[&str]| {
        write(home.path(), &[("p.yml", text), ("ansible.cfg", cfg)]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        clean(&mut command, home.path());
        command.env("FERRY_COMPAT", "ansible").env("ANSIBLE_CONFIG", home.path().join("ansible.cfg"));
        let mine = said(command.args(["run", "-i", "a,", "-c", "local", "p.yml"]).args(args));
        assert_eq!(mine.code, 0, "{text}: {}{}", mine.out, mine.err);
        mine.out
    };
    let play = |tasks: &str| format!("- hosts: a\n  gather_facts: false\n  remote_user: bob\n  tasks:\n{tasks}");
    let debug = |expression: &str| play(&format!("    - debug: {{msg: \"<{expression}>\"}}\n"));
    for (expression, wanted) in [
        // Whom one logs in as can be read; a date in a variable is still a date.
        ("{{ ansible_user }}", "<bob>"),
        ("{{ d.year }} {{ (d - e).days }}", "<2026 1>"),
    ] {
        let text = debug(expression).replace(
            "  tasks:",
            "  vars: {d: \"{{ '2026-01-02 03:04:05' | to_datetime }}\", e: \"{{ '2026-01-01 00:00:00' | to_datetime }}\"}\n  tasks:",
        );
        let out = at(&text, "", &[]);
        assert!(out.contains(wanted), "{expression}: {out}");
    }
    // Facts are names of their own only where that is not switched off.
    let facts =
        "- hosts: a\n  tasks:\n    - debug: {msg: \"<{{ ansible_system is defined }} {{ ansible_facts.system }}>\"}\n";
    assert!(at(facts, "", &[]).contains("<True Linux>"));
    assert!(at(facts, "[defaults]\ninject_facts_as_vars = no\n", &[]).contains("<False Linux>"));
    // So many lines stand around a change, and the head names both.
    std::fs::write(home.path().join("x"), "1\n2\n3\n4\n5\n6\n7\n8\n").unwrap();
    let copy = play("    - copy: {content: \"1\\n2\\n3\\n4\\nX\\n6\\n7\\n8\\n\", dest: x}\n");
    let out = at(&copy, "[diff]\ncontext = 1\n", &["-D", "-C"]);
    assert!(out.contains("--- before: x\n+++ after: x\n@@ -4,3 +4,3 @@\n 4\n-5\n+X\n 6\n"), "{out}");
    let new = play("    - copy: {content: \"a\\n\", dest: y}\n");
    assert!(at(&new, "", &["-D", "-C"]).contains("--- before\n+++ after: y\n@@ -0,0 +1 @@\n+a\n"));
    // Templates: the mark of who wrote a file, another encoding, who owns the template.
    std::fs::write(home.path().join("t.j2"), "# {{ ansible_managed }} {{ template_uid }}\né\n").unwrap();
    let out = at(
        &play("    - template: {src: t.j2, dest: made, output_encoding: latin-1}\n"),
        "[defaults]\nansible_managed = ours on {host}\n",
        &[],
    );
    let made = std::fs::read(home.path().join("made")).unwrap();
    let made: String = made.iter().map(|byte| char::from(*byte)).collect();
    assert!(made.starts_with("# ours on ") && !made.contains("{host}") && made.ends_with("\né\n"), "{made} {out}");
    // What is hidden is hidden where it was skipped as well.
    let hidden = play(
        "    - debug: {msg: x}\n      when: inventory_hostname == 'b'\n      no_log: true\n    - debug: {msg: x}\n      no_log: true\n",
    );
    let out = at(&hidden, "", &[]);
    assert!(!out.contains("censored"), "{out}");
    let out = at(&hidden, "", &["-v"]);
    assert!(out.contains("skipping: [a] => {\"censored\": ") && !out.contains("false_condition"), "{out}");
    // Which files of a folder are no inventories.
    write(
        home.path(),
        &[("inv/a.ini", "h ansible_connection=local\n"), ("inv/b.zz", "[broken\n"), ("inv/bad-c", "[broken\n")],
    );
    let listed = |cfg: &str| {
        std::fs::write(home.path().join("ansible.cfg"), cfg).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        clean(&mut command, home.path());
        command.env("ANSIBLE_CONFIG", home.path().join("ansible.cfg"));
        said(command.args(["inventory", "graph", "-i", "inv"]))
    };
    assert_ne!(listed("").code, 0);
    let mine = listed("[inventory]\nignore_extensions = .zz, .yy\nignore_patterns = ^bad\n");
    assert_eq!((mine.code, mine.out.contains("--h")), (0, true), "{}{}", mine.out, mine.err);
    // One file for each host.
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
    clean(&mut command, home.path());
    let mine =
        said(command.args(["exec", "all", "-i", "a,b,", "-c", "local", "-t", "tree/of", "-m", "debug", "-a", "msg=x"]));
    assert_eq!(mine.code, 0, "{}{}", mine.out, mine.err);
    for host in ["a", "b"] {
        let text = std::fs::read_to_string(home.path().join("tree/of").join(host)).unwrap();
        assert!(text.contains("\"msg\": \"x\""), "{text}");
    }
}

/// Where each host goes on by itself, what is told of one stands below the title of its own task.
#[test]
fn lines_stand_below_their_titles_under_free() {
    let home = tempfile::tempdir().unwrap();
    write(
        home.path(),
        &[(
            "p.yml",
            "- hosts: all\n  gather_facts: false\n  strategy: free\n  tasks:\n    - name: one\n      debug: {msg: 1}\n    - name: two\n      debug: {msg: 2}\n    - name: three\n      command: \"echo {{ inventory_hostname }}\"\n    - name: four\n      debug: {msg: 4}\n",
        )],
    );
    let mine = ferry(home.path(), true, &["p.yml"]);
    assert_eq!(mine.code, 0, "{}{}", mine.out, mine.err);
    let (mut title, mut seen) = (String::new(), 0);
    for line in mine.out.lines() {
        if let Some(rest) = line.strip_prefix("TASK [") {
            title = rest.split(']').next().unwrap().to_owned();
        }
        if line.starts_with("ok: ") || line.starts_with("changed: ") {
            seen += 1;
            assert_eq!(title == "three", line.starts_with("changed: "), "{}", mine.out);
        }
        if let Some(number) = line.trim().strip_prefix("\"msg\": ") {
            let wanted = ["one", "two", "three", "four"][number.parse::<usize>().unwrap() - 1];
            assert_eq!(title, wanted, "{}", mine.out);
        }
    }
    assert_eq!(seen, 12, "{}", mine.out);
}
