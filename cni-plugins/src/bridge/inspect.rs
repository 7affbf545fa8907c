//! CHECK: whether the bridge, the devices, the addresses and the routes are as ADD left them.

use super::conf::Conf;
use crate::context::Context;
use crate::plugin::{Call, refused};
use crate::pod;
use crate::spec::Error;
use crate::spec::error::CHECK_FAILED;

pub(super) fn check(call: &Call<'_>, conf: &Conf, context: &mut Context) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::new(CHECK_FAILED, text));
    let result = call.prev_result()?;
    let links = context.links().map_err(refused)?;
    let Some(bridge) = links.by_name(&conf.bridge).map_err(refused)? else {
        return wrong(format!("bridge {:?} is gone", conf.bridge));
    };
    if bridge.kind != "bridge" {
        return wrong(format!("link {:?} is no bridge", conf.bridge));
    }
    let mut is_attached = false;
    for interface in result.interfaces.iter().filter(|interface| interface.sandbox.is_none()) {
        let found = links.by_name(&interface.name).map_err(refused)?;
        is_attached |= found.is_some_and(|found| found.master == Some(bridge.index));
    }
    if !is_attached {
        return wrong(format!("no link of the container is a port of bridge {:?}", conf.bridge));
    }
    pod::check(call, &call.netns()?, result)
}
