//! Lists all images below a folder, sorted. Reading a folder does not open its files, so a folder may hold a
//! million names.

use std::ops::ControlFlow;
use std::path::Path;

use milenas_models::images::{SkipKind, Skipped, WalkEntry, path_name, walk as walk_folder};

use super::{Give, Item, RunOutputs, archive, is_tar_name};

/// Lists the images below a folder. Files whose names are not those of images, and the outputs of the run,
/// are counted in `skipped`. A tar is read like a folder.
pub(super) fn walk(
    folder: &Path,
    outputs: &RunOutputs,
    skipped: &mut Skipped,
    give: Give,
) -> ControlFlow<()> {
    let mut inside = Skipped::default();
    let walked = walk_folder(folder, skipped, &mut |path, _, found| {
        match found {
            WalkEntry::Folder => {}
            WalkEntry::Unusable(reason) => {
                give(Item::Unusable { name: path_name(path), reason })?;
            }
            _ if outputs.contain(path) => inside.add(SkipKind::Output),
            WalkEntry::Other(kind) => inside.add(kind),
            WalkEntry::File if is_tar_name(path.as_os_str()) => archive(path, &mut inside, give)?,
            WalkEntry::File => give(Item::file(path.to_path_buf()))?,
        }
        ControlFlow::Continue(())
    });
    skipped.extend(&inside);
    walked
}
