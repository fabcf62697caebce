//! Anypoint Monitoring and Visualizer's own tool, `amv-backup-restore.sh`: where it is found, whether it may be
//! trusted, how it is called, what it says.
//!
//! What lives here: one look at a node, the copy that is run, command lines, and the reading of output. What
//! does not: jobs (job), the answer to its question (modules), moving the archive (transfer).
//!
//! Two things shape this room. The script lies below a folder that belongs to Gravity's service user, and root
//! would run it: so nothing is found by a shell's glob, every step down to it is looked at, the whole folder
//! is copied to a place that root alone can write, and the copy is what runs. And the script is not
//! public: what is not known of it is told as unknown, and its exit code is not believed alone.
//!
//! Sources: the vendor's page on backup of PCE 3.x, and `getopts`-style options as earlier drafts of it describe.

mod calls;
mod look;
mod question;
mod report;

pub use calls::{Action, AmvBackup, AmvRestore, Half, Outcome, Usage, backup_script, restore_script};
pub use look::{AmvFacts, AmvOptions, Copied, ToolFile, changes, copy, forget, look, usage};
pub use question::{Pattern, Question, compile, question};
pub use report::{Row, Validation, Verdict, read_report};

/// The folder with the script and what it may source, below an unpacked package.
pub const FOLDER: &str = "resources/kubernetes/amv-backup-restore";
/// The script.
pub const SCRIPT: &str = "amv-backup-restore.sh";
