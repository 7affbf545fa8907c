//! Generates the wire types from `api.proto` and `ttrpc.proto`, without the protobuf compiler.

use prost_build::{Service, ServiceGenerator};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(["api.proto", "ttrpc.proto"], ["."])?;
    prost_build::Config::new()
        // One order for equal messages: what plugins are told does not depend on a hash.
        .btree_map(["."])
        .service_generator(Box::new(Calls))
        .compile_fds(descriptors)?;
    Ok(())
}

/// Ties each request to its method and its answer, so that nobody can mix them up.
struct Calls;

impl ServiceGenerator for Calls {
    fn generate(&mut self, service: Service, text: &mut String) {
        for method in &service.methods {
            text.push_str(&format!(
                "impl crate::Call<crate::{service}> for {request} {{\n    \
                 const METHOD: &'static str = \"{method}\";\n    type Answer = {answer};\n}}\n",
                service = service.name,
                request = method.input_type,
                method = method.proto_name,
                answer = method.output_type,
            ));
        }
    }
}
