//! stub
use super::Done;
use super::world::{OurJob, World};
use crate::catalog::Past;
use crate::digest::Sha256;
use crate::failure::Failure;
use serde_json::{Map, Value};
/// log
pub const LOG: &str = "amv-backup.log";
/// part
#[derive(Default)]
pub struct AmvPart {
    /// a
    pub job: Option<OurJob>,
    /// a
    pub arrived: Option<crate::transfer::Arrived>,
    /// a
    pub log_sha256: Option<Sha256>,
    /// a
    pub details: Map<String, Value>,
    /// a
    pub tool_dir: Option<(String, String)>,
    /// a
    pub failed: Option<Failure>,
    /// a
    pub skipped: Option<String>,
    /// a
    pub history: Vec<Past>,
}
pub(super) async fn run(_world: &World, _args: &Map<String, Value>) -> Result<Done, Failure> {
    Ok(Done::skipped("stub"))
}
pub(super) async fn lacks(_world: &World) -> Result<Done, Failure> {
    Ok(Done::skipped("stub"))
}
pub(super) async fn forget_tool(_world: &World, _host: &str, _dir: &str) {}
