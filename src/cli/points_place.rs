//! The places of the settings, opened: here the operator's flags and environment meet the catalog.

use super::args::Common;
use super::points_args::Where;
use super::{open, river};
use crate::catalog::Catalog;
use crate::catalog::place::{ObjectPlace, Place, SshPlace};
use crate::catalog::shelf::folder_place;
use crate::failure::{Failure, Kind};
use crate::secret::Masker;
use crate::settings::ansible_cfg::AnsibleSettings;
use crate::settings::places::CatalogAt;
use crate::settings::{Settings, aws};

/// Whether a place is only read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

/// The place that a command works on: `--catalog`, else the first of the settings.
pub(super) fn open_first(given: &Where, what: Use) -> Result<(Place, Settings), Failure> {
    let settings = open::settings(&[], given.catalog.as_deref(), None, None)?;
    let at = settings.places.first().ok_or_else(|| {
        Failure::new(Kind::CouldNotStart, "no catalog is named").mend("--catalog URL, or catalog in ferry.toml")
    })?;
    Ok((open_at(at, &settings, what)?, settings))
}

/// A place by its URL, as `--to` names it.
pub(super) fn open_named(url: &str, what: Use) -> Result<Place, Failure> {
    let settings = open::settings(&[], Some(url), None, None)?;
    let at = settings.places.first().ok_or_else(|| Failure::new(Kind::Usage, "the other place has no name"))?;
    open_at(at, &settings, what)
}

/// A place of the settings.
pub(super) fn open_at(at: &CatalogAt, settings: &Settings, what: Use) -> Result<Place, Failure> {
    match at {
        CatalogAt::Folder(root) => {
            let catalog = if what == Use::Write { Catalog::open(root)? } else { Catalog::open_read(root)? };
            Ok(folder_place(catalog))
        }
        CatalogAt::Ssh { user, host, port, path } => {
            let mut vars = serde_json::Map::new();
            // As ssh itself would go there: nothing of an inventory, and never as another user.
            vars.insert("ansible_become".to_owned(), false.into());
            user.as_ref().map(|user| vars.insert("ansible_user".to_owned(), user.as_str().into()));
            port.map(|port| vars.insert("ansible_port".to_owned(), port.into()));
            let common = Common::default();
            let settings = Settings { ansible: AnsibleSettings::default(), ..settings.clone() };
            let way = open::reach(&common, &settings)?.way(host, &vars)?;
            if let Some(failure) = Failure::all(way.wrong()) {
                return Err(failure);
            }
            if let Some(careless) = way.careless().first() {
                return Err(Failure::new(Kind::CouldNotStart, "archives do not go where host keys are not checked")
                    .saw(careless.clone())
                    .why("an archive holds every secret of a platform, and whoever sits in between would have it")
                    .mend("record the host's key: ssh-keyscan, or log in once with ssh"));
            }
            Ok(Place::Ssh(SshPlace::new(at.to_string(), way, path.clone(), river::patience()?)))
        }
        CatalogAt::S3 { bucket, prefix } => {
            let aws = aws::aws(&|name| std::env::var(name).ok())?;
            let masker = super::MASKER.get_or_init(Masker::new);
            [&aws.secret, &aws.token].into_iter().flatten().for_each(|secret| masker.learn(secret));
            Ok(Place::Object(ObjectPlace::new(at.to_string(), bucket, prefix, &aws)?))
        }
    }
}

/// The places that a point is copied to after its seal: all but the folder that it is sealed in. One that is away keeps no
/// backup from being made: it is told when the copy is due.
pub(super) fn others(settings: &Settings) -> Vec<(String, Result<Place, Failure>)> {
    let first = settings.catalogs.first().map(|root| CatalogAt::Folder(root.clone()));
    let others = settings.places.iter().filter(|at| Some(*at) != first.as_ref());
    others.map(|at| (at.to_string(), open_at(at, settings, Use::Write))).collect()
}
