//! Measures container runtimes through the CRI: any that listens on a Unix socket, several in one run with their samples
//! interleaved, beside the kernel's floor for the same work.
//!
//! ```text
//! cringle-bench --runtime NAME=SOCKET ... --image REFERENCE [--samples N] [--rows ROW,ROW] [--floor COMMAND]
//!               [--idle PROGRAM] [--pull REFERENCE[=LAYER,LAYER]] [--directory DIRECTORY] [--json FILE]
//! ```

mod answers;
mod fleet;
mod floor;
mod memory;
mod options;
mod pods;
mod processor;
mod pulls;
mod sample;
mod table;
mod target;

use anyhow::{Context, Result};
use options::Options;
use std::io::Write as _;
use table::Table;

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let table = runtime.block_on(measure(&options))?;
    let mut output = std::io::stdout();
    writeln!(output, "{table}").context("failed to print")?;
    if let Some(path) = &options.json {
        table.write_json(path)?;
    }
    Ok(())
}

async fn measure(options: &Options) -> Result<Table> {
    let mut targets = target::connect(&options.runtimes).await?;
    let mut table = Table::new(&targets);
    for target in &mut targets {
        target.cri.pull(&options.image).await?;
    }
    for row in pods::ROWS {
        if options.wants(row.key) {
            Box::pin(pods::measure(row, options, &mut targets, &mut table)).await?;
        }
    }
    if options.wants("exec") {
        Box::pin(fleet::exec(options, &mut targets, &mut table)).await?;
    }
    if options.wants("list") {
        Box::pin(fleet::list(options, &mut targets, &mut table)).await?;
    }
    if options.wants("memory") {
        Box::pin(memory::measure(options, &mut targets, &mut table)).await?;
    }
    if options.wants("pull") {
        Box::pin(pulls::measure(options, &mut targets, &mut table)).await?;
    }
    Ok(table)
}
