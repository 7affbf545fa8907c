//! `static`: the addresses are in the configuration, so there is nothing to keep account of.

use super::request::FixedRequest;
use crate::context::Context;
use crate::plugin::{Call, Plugin};
use crate::spec::error::CHECK_FAILED;
use crate::spec::result::{IpConfig, Result as CniResult};
use crate::spec::{Error, Version};

/// The plugin.
#[derive(Debug)]
pub(crate) struct Fixed;

impl Plugin for Fixed {
    fn add(&self, call: &Call<'_>, _: &mut Context) -> Result<CniResult, Error> {
        let request = FixedRequest::parse(call)?;
        if call.network.version <= Version::V0_2_0 {
            let ipv4 = request.addresses.iter().filter(|(net, _)| net.addr().is_ipv4()).count();
            if ipv4 > 1 || request.addresses.len() - ipv4 > 1 {
                let text = format!(
                    "cniVersion {} does not know more than one address per family",
                    call.network.version
                );
                return Err(Error::configuration(text));
            }
        }
        let ip = |&(address, gateway)| IpConfig { interface: None, address, gateway };
        Ok(CniResult {
            interfaces: Vec::new(),
            ips: request.addresses.iter().map(ip).collect(),
            routes: request.routes,
            dns: request.dns,
        })
    }

    fn delete(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, call: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        let found = call.prev_result()?;
        for (address, _) in FixedRequest::parse(call)?.addresses {
            if !found.ips.iter().any(|ip| ip.address == address) {
                return Err(Error::new(
                    CHECK_FAILED,
                    format!("address {address} is not in the previous result"),
                ));
            }
        }
        Ok(())
    }

    fn collect(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, _: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Command, Request, run};
    use crate::testing::request;

    const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"n","type":"x","ipam":{"type":"static",
        "addresses":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"address":"fd00::5/64"}],
        "routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["10.0.0.53"]}}}"#;

    fn addresses(args: &str, rest: &str) -> Result<Vec<String>, Error> {
        let config = CONFIG.replacen('{', &format!("{{{rest}"), 1);
        let request = Request { args: args.into(), ..request("c1", &config) };
        let result = run(Command::Add, "static", &request, &mut Context::new())?.unwrap();
        let text = |ip: &IpConfig| match ip.gateway {
            Some(gateway) => format!("{} via {gateway}", ip.address),
            None => ip.address.to_string(),
        };
        Ok(result.ips.iter().map(text).collect())
    }

    #[test]
    fn the_addresses_come_from_the_last_place_that_names_any() {
        let args = "IgnoreUnknown=1;IP=10.0.0.6/24,fd00::6/64;GATEWAY=10.0.0.2";
        let by_args = r#""args":{"cni":{"ips":["10.0.0.7/24"]}},"#;
        let by_runtime = r#""runtimeConfig":{"ips":["10.0.0.8/24"]},"#;
        let cases = [
            ("", String::new(), vec!["10.0.0.5/24 via 10.0.0.1", "fd00::5/64"]),
            (args, String::new(), vec!["10.0.0.6/24 via 10.0.0.2", "fd00::6/64"]),
            (args, by_args.into(), vec!["10.0.0.7/24"]),
            (args, format!("{by_args}{by_runtime}"), vec!["10.0.0.8/24"]),
        ];
        for (args, rest, expected) in cases {
            assert_eq!(addresses(args, &rest).unwrap(), expected, "{args} {rest}");
        }
    }

    #[test]
    fn addresses_need_a_prefix_and_old_versions_one_per_family() {
        for rest in
            [r#""runtimeConfig":{"ips":["10.0.0.8"]},"#, r#""runtimeConfig":{"ips":["x/24"]},"#]
        {
            assert_eq!(addresses("", rest).unwrap_err().code, 7, "{rest}");
        }
        let two = CONFIG.replace("1.1.0", "0.2.0").replace("fd00::5/64", "10.0.0.6/24");
        assert_eq!(
            run(Command::Add, "static", &request("c1", &two), &mut Context::new())
                .unwrap_err()
                .code,
            7
        );
    }
}
