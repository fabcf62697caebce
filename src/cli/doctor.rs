//! `ferry doctor`: to be written.
use super::args::DoctorArgs;
use crate::failure::Failure;
pub(super) async fn run(_args: DoctorArgs) -> Result<u8, Failure> {
    Ok(0)
}
