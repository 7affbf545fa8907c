//! The network plugins as one program; see the library's `multicall`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use cringle_cni::multicall::{Ending, Invocation};

fn main() -> ExitCode {
    let name = |argument: String| {
        let file = Path::new(&argument).file_name().map(|name| name.to_string_lossy().into_owned());
        file.unwrap_or_default()
    };
    let names = std::env::args_os()
        .take(2)
        .map(|argument| name(argument.to_string_lossy().into_owned()))
        .collect();
    let invocation = Invocation { names, variable: &|name| std::env::var(name).ok() };
    let mut output = std::io::stdout().lock();
    let ended =
        invocation.run(&mut std::io::stdin().lock(), &mut output, &mut std::io::stderr().lock());
    match ended.and_then(|ending| output.flush().map(|()| ending)) {
        Ok(Ending::Success) => ExitCode::SUCCESS,
        Ok(Ending::Failure) | Err(_) => ExitCode::FAILURE,
    }
}
