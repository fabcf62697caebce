//! Files that run a backup every night: `ferry init --schedule …`.
//!
//! What lives here: one text for each scheduler. What does not: a scheduler; ferry has none. Each text runs the backup,
//! keeps its exit code, and then asks `points check`, the dead man's switch: a schedule that stopped running must be
//! noticed by somebody who does not depend on it.

use std::path::{Path, PathBuf};

/// A scheduler that files can be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scheduler {
    /// A file for /etc/cron.d
    Cron,
    /// A service and a timer
    Systemd,
    /// A workflow for GitHub Actions, on a runner of your own
    Github,
    /// Jobs to include in .gitlab-ci.yml
    Gitlab,
    /// A Jenkinsfile
    Jenkins,
    /// A CronJob
    Kubernetes,
}

/// What the files are about.
pub(super) struct Night<'a> {
    /// The cluster's group.
    pub(super) cluster: &'a str,
    /// Hour and minute.
    pub(super) at: (u8, u8),
    /// The folder of ferry.toml, absolute.
    pub(super) dir: &'a Path,
    /// This binary.
    pub(super) exe: &'a Path,
}

/// A word for `sh`.
fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| String::new(), std::borrow::Cow::into_owned)
}

/// A text for YAML: JSON's strings are YAML's.
fn yaml(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

impl Scheduler {
    /// The files, their paths below the folder of `ferry.toml`.
    pub(super) fn files(self, night: &Night<'_>) -> Vec<(PathBuf, String)> {
        let name = format!("ferry-backup-{}", night.cluster);
        let below = |path: String, text: String| vec![(PathBuf::from(path), text)];
        match self {
            Self::Cron => below(format!("schedule/{name}.cron"), cron(night)),
            Self::Systemd => vec![
                (PathBuf::from(format!("schedule/{name}.service")), service(night)),
                (PathBuf::from(format!("schedule/{name}.timer")), timer(night)),
            ],
            Self::Github => below(format!(".github/workflows/{name}.yml"), github(night)),
            Self::Gitlab => below(format!("schedule/{name}.gitlab-ci.yml"), gitlab(night)),
            Self::Jenkins => below(format!("schedule/Jenkinsfile.{}", night.cluster), jenkins(night)),
            Self::Kubernetes => below(format!("schedule/{name}.kubernetes.yaml"), kubernetes(night)),
        }
    }
}

fn cron(night: &Night<'_>) -> String {
    let (hour, minute) = night.at;
    // cron takes an unescaped % for a line feed.
    let percent = |text: String| text.replace('%', "\\%");
    let (dir, exe) =
        (percent(quoted(&night.dir.display().to_string())), percent(quoted(&night.exe.display().to_string())));
    let cluster = night.cluster;
    format!(
        "# ferry: a backup of {cluster} every night. Copy it to /etc/cron.d/ferry-backup-{cluster} (no dot in that name).
# cron mails what is said to MAILTO; exit codes: ferry explain.
MAILTO=root
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
{minute} {hour} * * * root cd {dir} && {exe} backup {cluster} --output plain
# A second look that does not depend on the first: says something only when the newest backup is too old.
{minute} {} * * * root cd {dir} && {exe} points check {cluster} --max-age gravity=26h >/dev/null || echo 'the newest backup of {cluster} is too old'
",
        (hour + 6) % 24
    )
}

fn service(night: &Night<'_>) -> String {
    let (cluster, dir, exe) = (night.cluster, night.dir.display(), night.exe.display());
    format!(
        "# Copy it with its timer to /etc/systemd/system, then: systemctl enable --now ferry-backup-{cluster}.timer
[Unit]
Description=Backup of the PCE cluster {cluster} with ferry
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={dir}
ExecStart={exe} backup {cluster} --output plain
ExecStartPost={exe} points check {cluster} --max-age gravity=26h
# A backup takes what it takes; ferry has its own limits. A stop detaches (exit 8): the job goes on on the node.
TimeoutStartSec=infinity
KillSignal=SIGTERM
UMask=0077
NoNewPrivileges=true
"
    )
}

fn timer(night: &Night<'_>) -> String {
    let (cluster, (hour, minute)) = (night.cluster, night.at);
    format!(
        "[Unit]
Description=Every night: backup of the PCE cluster {cluster} with ferry

[Timer]
OnCalendar=*-*-* {hour:02}:{minute:02}:00
RandomizedDelaySec=5min
Persistent=true

[Install]
WantedBy=timers.target
"
    )
}

fn github(night: &Night<'_>) -> String {
    let (cluster, (hour, minute)) = (night.cluster, night.at);
    format!(
        "# ferry: a backup of {cluster} every night (times are UTC). The runner is your own: it keeps the catalog and reaches the bastion.
name: {}
on:
  schedule:
    - cron: \"{minute} {hour} * * *\"
  workflow_dispatch: {{}}
concurrency:
  group: ferry-{cluster}
  cancel-in-progress: false
permissions:
  contents: read
jobs:
  backup:
    runs-on: [self-hosted, ferry]
    timeout-minutes: 360
    env:
      # Only where sudo asks for a password on the nodes.
      FERRY_SUDO: ${{{{ secrets.FERRY_SUDO }}}}
    steps:
      - uses: actions/checkout@v4
      - name: Backup
        run: ferry backup {cluster} --output plain --junit junit.xml ${{FERRY_SUDO:+--become-password-env FERRY_SUDO}}
      - name: Is the newest backup young enough?
        if: always()
        run: ferry points check {cluster} --max-age gravity=26h
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: ferry
          path: junit.xml
",
        yaml(&format!("Backup of {cluster}"))
    )
}

fn gitlab(night: &Night<'_>) -> String {
    let cluster = night.cluster;
    format!(
        "# ferry: a backup of {cluster}. Include it in .gitlab-ci.yml and make a pipeline schedule for it ({:02}:{:02}).
# The runner with the tag ferry is your own: it keeps the catalog and reaches the bastion.
ferry-backup-{cluster}:
  stage: deploy
  tags: [ferry]
  rules:
    - if: $CI_PIPELINE_SOURCE == \"schedule\" || $CI_PIPELINE_SOURCE == \"web\"
  resource_group: ferry-{cluster}
  timeout: 6 hours
  script:
    # FERRY_SUDO: a masked variable, only where sudo asks for a password on the nodes.
    - ferry backup {cluster} --output plain --junit junit.xml ${{FERRY_SUDO:+--become-password-env FERRY_SUDO}}
  after_script:
    - ferry points check {cluster} --max-age gravity=26h
  artifacts:
    when: always
    reports:
      junit: junit.xml
",
        night.at.0, night.at.1
    )
}

fn jenkins(night: &Night<'_>) -> String {
    let (cluster, (hour, minute)) = (night.cluster, night.at);
    format!(
        "// ferry: a backup of {cluster} every night. The agent with the label ferry keeps the catalog and reaches the bastion.
pipeline {{
    agent {{ label 'ferry' }}
    triggers {{ cron('{minute} {hour} * * *') }}
    options {{
        disableConcurrentBuilds()
        timeout(time: 6, unit: 'HOURS')
    }}
    stages {{
        stage('Backup of {cluster}') {{
            steps {{
                // Where sudo asks for a password: withCredentials([string(credentialsId: 'ferry-sudo', variable: 'FERRY_SUDO')])
                // around it, and --become-password-env FERRY_SUDO.
                sh 'ferry backup {cluster} --output plain --junit junit.xml'
            }}
        }}
    }}
    post {{
        always {{
            junit allowEmptyResults: true, testResults: 'junit.xml'
            sh 'ferry points check {cluster} --max-age gravity=26h'
        }}
    }}
}}
"
    )
}

fn kubernetes(night: &Night<'_>) -> String {
    let (cluster, (hour, minute)) = (night.cluster, night.at);
    // Kubernetes takes fewer characters in a name than an inventory does.
    let name: String =
        cluster.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = format!("ferry-backup-{}", name.trim_matches('-'));
    let name: String = name.chars().take(52).collect();
    let name = name.trim_end_matches('-');
    format!(
        "# ferry: a backup of {cluster} every night, in a cluster that is not the one that is backed up.
# The image holds the one binary; `ferry-ssh` is a Secret with id_ed25519 and known_hosts, `ferry-config` a ConfigMap
# with ferry.toml and hosts.yml, `ferry-catalog` a volume that outlives the pod.
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: \"{minute} {hour} * * *\"
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 7
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 60
          containers:
            - name: ferry
              image: registry.example/ferry:{version}
              args: [\"backup\", {cluster_yaml}, \"--output\", \"plain\"]
              env:
                - name: FERRY_CONFIG
                  value: /etc/ferry/ferry.toml
                - name: HOME
                  value: /home/ferry
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
              volumeMounts:
                - name: config
                  mountPath: /etc/ferry
                  readOnly: true
                - name: ssh
                  mountPath: /home/ferry/.ssh
                  readOnly: true
                - name: catalog
                  mountPath: /var/lib/ferry-catalog
                - name: tmp
                  mountPath: /tmp
          volumes:
            - name: config
              configMap:
                name: ferry-config
            - name: ssh
              secret:
                secretName: ferry-ssh
                defaultMode: 256
            - name: catalog
              persistentVolumeClaim:
                claimName: ferry-catalog
            - name: tmp
              emptyDir: {{}}
",
        version = env!("CARGO_PKG_VERSION"),
        cluster_yaml = yaml(cluster),
    )
}
