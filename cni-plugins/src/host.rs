//! `host`: a network that is the host's own. There is nothing to make; the type exists so that such a network can be
//! configured like any other.

use crate::context::Context;
use crate::plugin::{Call, Plugin};
use crate::spec::Error;
use crate::spec::result::Result as CniResult;

/// The plugin.
#[derive(Debug)]
pub(crate) struct Host;

impl Plugin for Host {
    fn add(&self, call: &Call<'_>, _: &mut Context) -> Result<CniResult, Error> {
        let mut result = call.network.prev_result.clone().unwrap_or_default();
        if result.dns.is_empty() {
            result.dns = call.network.dns.clone();
        }
        Ok(result)
    }

    fn delete(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }

    fn collect(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }
}
