use crate::plugin::Command;
use crate::testing::{Pod, on_new_host};
#[test]
fn measure() {
    on_new_host(|host| {
        for (name, text) in [
            ("bridge", r#"{"cniVersion":"1.1.0","name":"n","type":"bridge","isDefaultGateway":true,"ipam":{"type":"host-local",DATA,"subnet":"10.1.0.0/16"}}"#),
            ("bridge+masq", r#"{"cniVersion":"1.1.0","name":"n","type":"bridge","isDefaultGateway":true,"ipMasq":true,"ipam":{"type":"host-local",DATA,"subnet":"10.1.0.0/16"}}"#),
            ("dual+masq", r#"{"cniVersion":"1.1.0","name":"n2","bridge":"cni1","type":"bridge","isDefaultGateway":true,"ipMasq":true,"ipam":{"type":"host-local",DATA,"ranges":[[{"subnet":"10.2.0.0/16"}],[{"subnet":"fd00::/64"}]]}}"#),
        ] {
            let mut times = Vec::new(); let mut dels = Vec::new(); let mut ports = Vec::new(); let mut unports = Vec::new();
            for n in 0..60 {
                let pod = Pod::new(&format!("{name}{n}").replace('+', "-"));
                host.context.netns_fate = crate::NetnsFate::Dies;
                let t = std::time::Instant::now();
                let r = host.run(Command::Add, "bridge", &pod, text).unwrap();
                times.push(t.elapsed().as_micros());
                let pm = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"portmap","runtimeConfig":{{"portMappings":[{{"hostPort":8080,"containerPort":80}},{{"hostPort":8081,"containerPort":80}}]}},"prevResult":{}}}"#, r.to_json(crate::spec::Version::LATEST));
                let t = std::time::Instant::now();
                host.run(Command::Add, "portmap", &pod, &pm).unwrap();
                ports.push(t.elapsed().as_micros());
                let t = std::time::Instant::now();
                host.run(Command::Delete, "portmap", &pod, &pm).unwrap();
                unports.push(t.elapsed().as_micros());
                let t = std::time::Instant::now();
                host.run(Command::Delete, "bridge", &pod, text).unwrap();
                dels.push(t.elapsed().as_micros());
            }
            for (what, t) in [("add", &mut times), ("ports add", &mut ports), ("ports del", &mut unports), ("del dies", &mut dels)] {
                t.sort();
                println!("{name} {what}: min {} p50 {} p90 {}", t[0], t[30], t[54]);
            }
        }
    });
}
