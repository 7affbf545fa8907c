//! `loopback`: sets the container's own loopback device up. Whatever the interface is called in the request, it is `lo`.

use ipnet::IpNet;

use crate::context::{Context, NetnsFate};
use crate::link::{Link, LinkError, Links};
use crate::netns::Netns;
use crate::plugin::{Call, Plugin, refused};
use crate::spec::Error;
use crate::spec::error::CHECK_FAILED;
use crate::spec::result::{Interface, IpConfig, Result as CniResult};

const NAME: &str = "lo";

/// The plugin.
#[derive(Debug)]
pub(crate) struct Loopback;

impl Plugin for Loopback {
    fn add(&self, call: &Call<'_>, _: &mut Context) -> Result<CniResult, Error> {
        let netns = call.netns()?;
        let (link, addresses) = within(&netns, |links| {
            let link = links.require(NAME)?;
            links.set_flags(&link, Link::UP, Link::UP)?;
            let addresses = links.addresses(&link)?;
            Ok((link, addresses))
        })?;
        if let Some(previous) = &call.network.prev_result {
            return Ok(previous.clone());
        }
        let interface = Interface {
            name: NAME.into(),
            mac: link.mac_text(),
            sandbox: Some(netns.path().display().to_string()),
            ..Interface::default()
        };
        let ip = |address: IpNet| IpConfig { interface: Some(0), address, gateway: None };
        let ips = addresses.iter().map(|found| ip(found.address)).collect();
        Ok(CniResult { interfaces: vec![interface], ips, ..CniResult::default() })
    }

    fn delete(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        // A namespace that is gone or dying needs nothing; setting a device down waits for every processor.
        let Some(path) =
            call.request.netns.as_deref().filter(|_| context.netns_fate == NetnsFate::Kept)
        else {
            return Ok(());
        };
        let Ok(netns) = Netns::open(path) else { return Ok(()) };
        within(&netns, |links| match links.by_name(NAME)? {
            Some(link) => links.set_flags(&link, 0, Link::UP),
            None => Ok(()),
        })
    }

    fn check(&self, call: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        let link = within(&call.netns()?, |links| links.require(NAME))?;
        if link.has(Link::UP) {
            Ok(())
        } else {
            Err(Error::new(CHECK_FAILED, "the loopback device is down"))
        }
    }

    fn collect(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }
}

fn within<T: Send>(
    netns: &Netns,
    work: impl FnOnce(&mut Links) -> Result<T, LinkError> + Send,
) -> Result<T, Error> {
    netns.within(|| work(&mut Links::open()?)).map_err(refused)?.map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Command;
    use crate::spec::Version;
    use crate::testing::{Pod, on_new_host};

    const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"lo","type":"loopback"}"#;

    #[test]
    fn the_device_goes_up_and_down_and_its_addresses_are_told() {
        on_new_host(|host| {
            let pod = Pod::bare("c1");
            let result = host.run(Command::Add, "loopback", &pod, CONFIG).unwrap();
            let addresses: Vec<String> =
                result.ips.iter().map(|ip| ip.address.to_string()).collect();
            assert_eq!(addresses, ["127.0.0.1/8", "::1/128"]);
            assert_eq!(result.interfaces[0].name, "lo");
            host.run(Command::Check, "loopback", &pod, CONFIG).unwrap();
            host.run(Command::Delete, "loopback", &pod, CONFIG).unwrap();
            assert_eq!(host.run(Command::Check, "loopback", &pod, CONFIG).unwrap_err().code, 101);
        });
    }

    #[test]
    fn the_previous_result_is_passed_on() {
        on_new_host(|host| {
            let previous = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"}]}"#;
            let config = CONFIG.replacen('{', &format!(r#"{{"prevResult":{previous},"#), 1);
            let result = host.run(Command::Add, "loopback", &Pod::bare("c1"), &config).unwrap();
            assert_eq!(result, CniResult::parse(previous, Version::LATEST).unwrap());
        });
    }
}
