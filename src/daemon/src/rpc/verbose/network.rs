//! Networks in the form in which containerd shows them, which is the Go names of its CNI client.

use cringle_network::Network;
use serde_json::{Map, Value, json};

/// The name of a pod's interface.
const INTERFACE: &str = "eth0";

/// Where configurations and plugins are, and the configuration that the next pod gets.
pub(super) fn configuration(network: &Network) -> Value {
    let settings = network.settings();
    let list = network.configuration().ok();
    json!({
        "PluginDirs": settings.plugin_directories,
        "PluginConfDir": settings.config_directory,
        "Networks": list.as_deref().and_then(list_shown).into_iter().collect::<Vec<_>>(),
    })
}

fn list_shown(text: &str) -> Option<Value> {
    let list: Value = serde_json::from_str(text).ok()?;
    let plugins: Vec<Value> = list["plugins"]
        .as_array()?
        .iter()
        .map(|plugin| json!({ "Network": plugin, "Source": plugin.to_string() }))
        .collect();
    let config = json!({
        "Name": list["name"], "CNIVersion": list["cniVersion"], "Plugins": plugins, "Source": text,
    });
    Some(json!({ "Config": config, "IFName": INTERFACE }))
}

/// A CNI result by interface.
pub(super) fn result(text: &str) -> Value {
    let result: Value = serde_json::from_str(text).unwrap_or_default();
    let addresses = items(&result, "ips");
    let interfaces = items(&result, "interfaces").iter().enumerate().map(|(index, interface)| {
        let own =
            addresses.iter().filter(|ip| ip["interface"].as_u64() == u64::try_from(index).ok());
        let own: Vec<Value> = own.map(address).collect();
        let shown = json!({
            "IPConfigs": if own.is_empty() { Value::Null } else { Value::Array(own) },
            "Mac": interface["mac"].as_str().unwrap_or_default(),
            "Sandbox": interface["sandbox"].as_str().unwrap_or_default(),
        });
        (interface["name"].as_str().unwrap_or_default().to_owned(), shown)
    });
    json!({
        "Interfaces": interfaces.collect::<Map<_, _>>(),
        "DNS": [result.get("dns").cloned().unwrap_or_else(|| json!({}))],
        "Routes": result["routes"],
    })
}

fn address(ip: &Value) -> Value {
    let text = ip["address"].as_str().unwrap_or_default();
    let plain = text.split_once('/').map_or(text, |(plain, _bits)| plain);
    json!({ "IP": plain, "Gateway": ip["gateway"].as_str().unwrap_or_default() })
}

fn items<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_with_the_interface_they_are_on() {
        let shown = result(
            r#"{"cniVersion":"1.1.0","interfaces":[{"name":"br0","mac":"m1"},{"name":"eth0","mac":"m2","sandbox":"/run/netns/x"}],
               "ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1","interface":1},{"address":"fd00::5/64","interface":1}],
               "routes":[{"dst":"0.0.0.0/0"}]}"#,
        );
        let own = &shown["Interfaces"]["eth0"];
        assert_eq!(own["IPConfigs"][0], json!({"IP": "10.1.0.5", "Gateway": "10.1.0.1"}));
        assert_eq!(own["IPConfigs"][1]["IP"], "fd00::5");
        assert_eq!(own["Sandbox"], "/run/netns/x");
        assert_eq!(shown["Interfaces"]["br0"]["IPConfigs"], Value::Null);
        assert_eq!(shown["Routes"][0]["dst"], "0.0.0.0/0");
    }

    #[test]
    fn a_list_is_shown_with_its_plugins_and_as_it_was_written() {
        let text = r#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"bridge","x":1}]}"#;
        let shown = list_shown(text).unwrap();
        assert_eq!(shown["Config"]["Plugins"][0]["Network"]["type"], "bridge");
        assert_eq!(shown["Config"]["Source"], text);
    }
}
