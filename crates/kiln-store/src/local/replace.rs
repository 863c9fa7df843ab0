//! Putting other contents in the place of a valid path's, which are not what they were (R4).

use std::io::Read;

use kiln_fs::{FailPoint, fail_point, replace};
use kiln_narinfo::PathInfo;

use crate::blocking::waiting;
use crate::error::Result;
use crate::local::LocalStore;
use crate::local::scratch::Scratch;
use crate::store::{Added, CheckSignatures};

impl LocalStore {
    /// Like [`add_nar_from`](Self::add_nar_from), but what is valid is replaced: the archive is restored beside the store's
    /// objects, and only when it has turned out to be what `info` says, the trees change places and `info` goes on record.
    /// Whoever looks meanwhile finds the one or the other. Files are not shared with others, as what is shared may be what
    /// is damaged.
    ///
    /// # Errors
    /// See there. What was there before is there still, then.
    pub async fn replace_nar_from(
        &self,
        info: PathInfo,
        nar: impl Read + Send + 'static,
        check: CheckSignatures,
    ) -> Result<Added> {
        let store = self.clone();
        waiting(move || store.replace_nar_blocking(info, nar, check)).await
    }

    fn replace_nar_blocking(
        &self,
        mut info: PathInfo,
        nar: impl Read,
        check: CheckSignatures,
    ) -> Result<Added> {
        self.begin_adding(&mut info, check)?;
        self.check_references(&info)?;
        let scratch = Scratch::create(self)?;
        let name = Self::component(&info.path)?;
        let place = (scratch.directory(), &name);
        let nar = self.restore_archive(place, &info.path, info.nar_size, nar)?;
        let info = self.check_arrived(place, nar, info)?;
        self.sync_if_wanted(scratch.directory(), &name)?;
        fail_point(FailPoint::ObjectMade);
        let mut lock = self.lock_paths_blocking(std::slice::from_ref(&info.path), |_| {})?;
        lock.delete_on_release(true);
        replace((scratch.directory(), &name), (self.directory(), &name))?;
        fail_point(FailPoint::ObjectMoved);
        self.register_blocking(vec![info])?;
        Ok(Added::New)
    }
}
