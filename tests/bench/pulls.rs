//! Rows about pulling: an image of which the runtime has nothing.

use crate::options::Options;
use crate::sample::Samples;
use crate::table::Table;
use crate::target::Target;
use anyhow::Result;
use tokio::time::Instant;

/// A pull takes long, so a few must do.
const PULLS: usize = 5;

/// Pulls and removes every image that the command line names.
pub(crate) async fn measure(
    options: &Options,
    targets: &mut [Target],
    table: &mut Table,
) -> Result<()> {
    for reference in &options.pulls {
        let mut samples = vec![Samples::default(); targets.len()];
        for _ in 0..PULLS {
            for (place, target) in targets.iter_mut().enumerate() {
                let begin = Instant::now();
                target.cri.pull(reference).await?;
                samples[place].push(begin.elapsed());
                target.cri.remove_image(reference).await?;
            }
        }
        let name = reference.rsplit('/').next().unwrap_or(reference);
        table.row(&format!("cold pull of {name}"), &samples, None);
    }
    Ok(())
}
