//! The unpack worker as a program of its own, which the tests start in place of the daemon's.

use std::process::ExitCode;

fn main() -> ExitCode {
    cringle_image::unpack::worker_main()
}
