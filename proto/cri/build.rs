//! Generates the wire types from `api.proto`, without the protobuf compiler.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(["api.proto"], ["."])?;
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        // An RPC that nobody wrote yet answers UNIMPLEMENTED.
        .generate_default_stubs(true)
        // Its Debug is written by hand and shows no secret.
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_fds(descriptors)?;
    Ok(())
}
