//! Addresses for containers: the plugins that give them out, and how other plugins call them. One of ours is a function
//! call; a foreign one is run as the specification says.

mod delegate;
mod fixed;
mod host_local;
mod range;
mod request;
mod store;

pub(crate) use fixed::Fixed;
pub(crate) use host_local::HostLocal;
pub(crate) use store::LeaseCache;

use std::path::PathBuf;

use crate::context::Context;
use crate::plugin::{self, Call, Command, Plugin};
use crate::spec::Error;
use crate::spec::result::Result as CniResult;

/// Our plugins that give out addresses.
const OURS: [&str; 2] = ["host-local", "static"];

enum Way {
    Call(&'static dyn Plugin),
    Run(PathBuf),
}

/// Asks for addresses; none if the configuration names no plugin for them.
pub(crate) fn add(call: &Call<'_>, context: &mut Context) -> Result<CniResult, Error> {
    match way(call, context)? {
        None => Ok(CniResult::default()),
        Some(Way::Call(plugin)) => plugin.add(call, context),
        Some(Way::Run(program)) => {
            let answer = delegate::run(&program, Command::Add, call)?;
            CniResult::parse(&answer, call.network.version)
        }
    }
}

/// Gives the addresses back.
pub(crate) fn delete(call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
    pass_on(Command::Delete, call, context)
}

/// Asks whether the addresses are still given out.
pub(crate) fn check(call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
    pass_on(Command::Check, call, context)
}

/// Gives back the addresses that no valid attachment has.
pub(crate) fn collect(call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
    pass_on(Command::Collect, call, context)
}

/// Asks whether there are addresses to give.
pub(crate) fn status(call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
    pass_on(Command::Status, call, context)
}

fn pass_on(command: Command, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
    match way(call, context)? {
        None => Ok(()),
        Some(Way::Run(program)) => delegate::run(&program, command, call).map(drop),
        Some(Way::Call(plugin)) => match command {
            Command::Delete => plugin.delete(call, context),
            Command::Check => plugin.check(call, context),
            Command::Collect => plugin.collect(call, context),
            Command::Status => plugin.status(call, context),
            Command::Add | Command::Version => Ok(()),
        },
    }
}

/// How the plugin that the configuration names is reached: a file of that name that is not ours is run, and one of ours
/// needs no file at all.
fn way(call: &Call<'_>, context: &Context) -> Result<Option<Way>, Error> {
    let Some(kind) = call.network.ipam_type.as_deref() else { return Ok(None) };
    let ours = OURS.contains(&kind).then(|| plugin::find(kind)).flatten();
    let file =
        call.request.path.iter().map(|directory| directory.join(kind)).find(|file| file.is_file());
    match (file, ours) {
        (None, Some(plugin)) => Ok(Some(Way::Call(plugin))),
        (Some(file), Some(plugin)) if context.is_ours(&file) => Ok(Some(Way::Call(plugin))),
        (Some(file), _) => Ok(Some(Way::Run(file))),
        (None, None) => Err(Error::configuration(format!(
            "failed to find ipam plugin {kind:?} in {:?}",
            call.request.path
        ))),
    }
}
