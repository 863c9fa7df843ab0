//! Users and groups, as the system's name services know them (`getpwnam_r(3)`, `getpwuid_r(3)`, `getgrnam_r(3)`).

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;

use rustix::io::Errno;

/// A user account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User ID.
    pub uid: u32,
    /// ID of the primary group.
    pub gid: u32,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Group ID.
    pub gid: u32,
    /// Names of the members that the group's own entry lists.
    pub members: Vec<CString>,
}

/// An entry larger than this is taken for damage.
const LARGEST_ENTRY: usize = 16 << 20;

/// The user of that name; `None` if there is none.
pub fn user_by_name(name: &CStr) -> Result<Option<User>, Errno> {
    let mut found = None;
    with_growing_buffer(|buffer, length| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut result = ptr::null_mut();
        // SAFETY: all pointers are to live values, and `length` is the size of `buffer`.
        let error =
            unsafe { libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer, length, &mut result) };
        if error == 0 && !result.is_null() {
            // SAFETY: success with a result means that the entry has been filled in.
            let entry = unsafe { entry.assume_init() };
            found = Some(User { uid: entry.pw_uid, gid: entry.pw_gid });
        }
        error
    })?;
    Ok(found)
}

/// The name of the user with that ID; `None` if there is none.
pub fn name_of_user(uid: u32) -> Result<Option<CString>, Errno> {
    let mut found = None;
    with_growing_buffer(|buffer, length| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut result = ptr::null_mut();
        // SAFETY: all pointers are to live values, and `length` is the size of `buffer`.
        let error = unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer, length, &mut result) };
        if error == 0 && !result.is_null() {
            // SAFETY: success with a result means that the entry has been filled in.
            let entry = unsafe { entry.assume_init() };
            // SAFETY: the name of an entry is a terminated string in `buffer`.
            found = Some(unsafe { CStr::from_ptr(entry.pw_name) }.to_owned());
        }
        error
    })?;
    Ok(found)
}

/// The group of that name; `None` if there is none.
pub fn group_by_name(name: &CStr) -> Result<Option<Group>, Errno> {
    let mut found = None;
    with_growing_buffer(|buffer, length| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut result = ptr::null_mut();
        // SAFETY: all pointers are to live values, and `length` is the size of `buffer`.
        let error =
            unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer, length, &mut result) };
        if error == 0 && !result.is_null() {
            // SAFETY: success with a result means that the entry has been filled in.
            let entry = unsafe { entry.assume_init() };
            let mut members = Vec::new();
            let mut next = entry.gr_mem;
            // SAFETY: `gr_mem` points to an array in `buffer` that ends with a null pointer, and the loop stops there.
            while let Some(member) = unsafe { next.as_ref() }.filter(|member| !member.is_null()) {
                // SAFETY: every element before the null pointer is a terminated string in `buffer`.
                members.push(unsafe { CStr::from_ptr(*member) }.to_owned());
                next = next.wrapping_add(1);
            }
            found = Some(Group { gid: entry.gr_gid, members });
        }
        error
    })?;
    Ok(found)
}

/// All groups of a user, its primary group included.
pub fn groups_of_user(name: &CStr, primary: u32) -> Result<Vec<u32>, Errno> {
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).map_err(|_| Errno::RANGE)?;
        // SAFETY: `groups` has room for `count` elements, and the C library writes no more than that.
        let result = unsafe { libc::getgrouplist(name.as_ptr(), primary, groups.as_mut_ptr(), &mut count) };
        let needed = usize::try_from(count).map_err(|_| Errno::RANGE)?;
        if result >= 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        if groups.len() > 1 << 17 {
            return Err(Errno::RANGE);
        }
        groups.resize(needed.max(groups.len() * 2), 0);
    }
}

/// Calls `query` with larger and larger buffers, until it no longer says ERANGE.
fn with_growing_buffer(
    mut query: impl FnMut(*mut libc::c_char, libc::size_t) -> libc::c_int,
) -> Result<(), Errno> {
    let mut buffer: Vec<libc::c_char> = vec![0; 4096];
    loop {
        match query(buffer.as_mut_ptr(), buffer.len()) {
            0 => return Ok(()),
            libc::ERANGE if buffer.len() < LARGEST_ENTRY => buffer.resize(buffer.len() * 4, 0),
            // What POSIX allows name services to say instead of "no such name".
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(()),
            error => return Err(Errno::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known() {
        assert_eq!(user_by_name(c"root"), Ok(Some(User { uid: 0, gid: 0 })));
        assert_eq!(name_of_user(0), Ok(Some(c"root".to_owned())));
        assert_eq!(name_of_user(4_000_000_000), Ok(None));
        assert_eq!(group_by_name(c"root").unwrap().unwrap().gid, 0);
        assert!(groups_of_user(c"root", 0).unwrap().contains(&0));
    }

    #[test]
    fn unknown_names_are_not_errors() {
        assert_eq!(user_by_name(c"no-such-user-here"), Ok(None));
        assert_eq!(name_of_user(u32::MAX - 1), Ok(None));
        assert_eq!(group_by_name(c"no-such-group-here"), Ok(None));
    }
}
