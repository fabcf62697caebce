//! `ferry points` and `ferry catalog` as they are typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::encryption::OpenArgs;

/// Which catalog, and how it is told.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Where {
    /// The catalog: a folder, ssh://USER@HOST/PATH or s3://BUCKET/PREFIX; else the first of the settings
    #[arg(long, value_name = "URL")]
    pub(super) catalog: Option<String>,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Which points are kept. Each that is given goes before the one of the settings.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct KeepArgs {
    /// Keep so many of the newest
    #[arg(long, value_name = "N")]
    pub(super) keep_last: Option<u32>,
    /// Keep one for each of so many days that have any
    #[arg(long, value_name = "N")]
    pub(super) keep_daily: Option<u32>,
    /// Keep one for each of so many weeks
    #[arg(long, value_name = "N")]
    pub(super) keep_weekly: Option<u32>,
    /// Keep one for each of so many months
    #[arg(long, value_name = "N")]
    pub(super) keep_monthly: Option<u32>,
    /// Keep one for each of so many years
    #[arg(long, value_name = "N")]
    pub(super) keep_yearly: Option<u32>,
    /// Keep all that are younger, such as 30d
    #[arg(long, value_name = "TIME")]
    pub(super) keep_within: Option<String>,
    /// How long the trash keeps what goes, such as 7d
    #[arg(long, value_name = "TIME")]
    pub(super) grace: Option<String>,
}

/// `ferry points`
#[derive(Debug, Subcommand)]
pub(super) enum PointsCommand {
    /// One line a point, and which clusters of the inventory it fits
    List {
        /// Only this cluster
        cluster: Option<String>,
        /// Inventory, to tell which clusters a point fits
        #[arg(short = 'i', long = "inventory", value_name = "PATH")]
        inventory: Vec<String>,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// All that a point says about itself
    Show {
        /// Id, unique prefix or CLUSTER/ID
        point: String,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Read every archive again, hash it, walk it; exit 9 names what is wrong
    Verify {
        /// Id, unique prefix or CLUSTER/ID; none means every sealed point
        point: Option<String>,
        /// Read no archive: only manifest, notes, names and sizes
        #[arg(long)]
        metadata: bool,
        /// Only a part of the points, such as 3/7: the third of seven parts, a part a day; one in volumes is divided by them
        #[arg(long, value_name = "K/N", conflicts_with_all = ["point", "metadata"])]
        part: Option<String>,
        /// What opens encrypted archives; without it their files are compared with their digests as they lie
        #[command(flatten)]
        open: OpenArgs,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Write the catalog as one page that needs no network
    Report(super::points_report::PointsReportArgs),
    /// Vouch for a suspect point: from now on it counts as verified
    Accept {
        /// Id, unique prefix or CLUSTER/ID
        point: String,
        /// Why it is right although it is unlike its predecessors
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Nothing deletes the point: for a time (30d), forever, or release
    Hold {
        /// Id, unique prefix or CLUSTER/ID
        point: String,
        /// 30d, forever, or release
        #[arg(value_name = "TIME", default_value = "forever")]
        time: String,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Put into the trash what no rule keeps, and empty the trash of what lay there long enough
    Prune {
        /// Only this cluster
        cluster: Option<String>,
        /// Change nothing: show why each point goes or stays
        #[arg(short = 'C', long)]
        check: bool,
        /// The newest verified point of this PCE version is no longer wanted for being that
        #[arg(long, value_name = "VERSION")]
        drop_version: Vec<String>,
        /// The rules
        #[command(flatten)]
        keep: KeepArgs,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// For monitoring: is there a verified archive of each kind that is young enough? exit 9 when not
    Check {
        /// Clusters; none means every cluster of the catalog
        cluster: Vec<String>,
        /// The greatest age of a kind (gravity, amv, nfs), such as gravity=26h; without a kind it is gravity's
        #[arg(long, value_name = "KIND=AGE", required_unless_present_any = ["min_replicas", "drilled_within"])]
        max_age: Vec<String>,
        /// In so many places, this one included, the newest verified point must be verified
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        min_replicas: Option<u32>,
        /// A point of the cluster must have been rehearsed (ferry drill) within this time, such as 90d
        #[arg(long, value_name = "TIME")]
        drilled_within: Option<String>,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Copy a point to another place, where it is proved
    Copy {
        /// Id, unique prefix or CLUSTER/ID; several
        #[arg(required = true)]
        point: Vec<String>,
        /// The other place
        #[arg(long, value_name = "URL", required = true)]
        to: Vec<String>,
        /// Read every byte back from there
        #[arg(long)]
        reread: bool,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Write a point into one tar, which tar, sha256sum and gzip alone can read
    Export {
        /// Id, unique prefix or CLUSTER/ID
        point: String,
        /// The file; ./CLUSTER-ID.tar by default
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Take an exported point, or a point's folder, into the catalog
    Import {
        /// The tar, or the folder
        path: PathBuf,
        /// What opens encrypted archives; without it their files are compared with their digests as they lie
        #[command(flatten)]
        open: OpenArgs,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Put a point into the trash; what prune protects is protected here too
    Delete {
        /// Id, unique prefix or CLUSTER/ID
        point: String,
        /// The point's id, typed once more: without a terminal nothing else confirms
        #[arg(long, value_name = "ID")]
        confirm: Option<String>,
        /// Take it out of the trash again
        #[arg(long, conflicts_with_all = ["confirm", "now"])]
        undo: bool,
        /// Delete it for good, at once
        #[arg(long)]
        now: bool,
        /// The newest verified point of this PCE version is no longer wanted for being that
        #[arg(long, value_name = "VERSION")]
        drop_version: Vec<String>,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
    /// Remove the lock that a ferry left which died
    BreakLock {
        /// CLUSTER/ID
        point: String,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
}

/// `ferry catalog`
#[derive(Debug, Subcommand)]
pub(super) enum CatalogCommand {
    /// Remove the lock that a ferry left which died
    BreakLock {
        /// CLUSTER/ID
        point: String,
        /// Which catalog
        #[command(flatten)]
        place: Where,
    },
}
