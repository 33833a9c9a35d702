//! Who a process runs as, from the container's own `passwd` and `group`.
//!
//! Both files belong to the image, so they are read through the container's root, only when regular, with a limit, and
//! a line whose numbers do not parse is no entry (CVE-2024-40635, CVE-2026-46680: a number that wraps becomes root).

use wharf_sys::root::Root;

use crate::error::{Error, Result};

/// The largest `passwd` or `group` that is read, in bytes.
const FILE_LIMIT: u64 = 4 << 20;
/// The largest id; Docker keeps to 31 bits.
const MAX_ID: i64 = i32::MAX as i64;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id inside the container.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one first (CVE-2022-36109).
    pub groups: Vec<u32>,
    /// Home directory, `/` where `passwd` says none.
    pub home: String,
}

/// One line of `passwd`.
#[derive(Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// One line of `group`.
#[derive(Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Resolves `USER[:GROUP]` (names or numbers; empty means uid 0) and the groups added with `--group-add`.
///
/// # Errors
/// `unable to find user …`, `unable to find group …` and `uids and gids must be in range 0-2147483647`, all internal as
/// Docker answers them, and whatever kept the files from being read.
pub fn resolve(root: &Root, user: &str, group_add: &[String]) -> Result<Identity> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    resolve_in(&passwd, &group, user, group_add)
}

fn read(root: &Root, path: &str) -> Result<String> {
    match root.read(path, FILE_LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(Error::internal(format!("read the container's /{path}: {error}"))),
    }
}

fn resolve_in(passwd: &str, group: &str, user: &str, group_add: &[String]) -> Result<Identity> {
    let (user, group_name) = user.split_once(':').unwrap_or((user, ""));
    let groups = parse_groups(group);
    let account = find_account(passwd, user)?;
    let mut gids = Vec::new();
    let gid = if group_name.is_empty() {
        if let Some(name) = &account.name {
            gids.extend(groups.iter().filter(|group| group.members.contains(name)).map(|group| group.gid));
        }
        account.gid
    } else {
        find_group(&groups, group_name)?
    };
    gids.insert(0, gid);
    for name in group_add {
        gids.push(find_group(&groups, name)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    gids.retain(|gid| seen.insert(*gid));
    Ok(Identity { uid: account.uid, gid, groups: gids, home: account.home })
}

/// What a user's name or number led to; without a name there is no line in `passwd`.
struct Found {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: String,
}

fn find_account(passwd: &str, user: &str) -> Result<Found> {
    let number = user.parse::<i64>().ok();
    let matches = |account: &Account| {
        if user.is_empty() {
            account.uid == 0
        } else {
            account.name == user || number == Some(i64::from(account.uid))
        }
    };
    if let Some(account) = parse_passwd(passwd).into_iter().find(matches) {
        let home = if account.home.is_empty() { "/".to_owned() } else { account.home };
        return Ok(Found { name: Some(account.name), uid: account.uid, gid: account.gid, home });
    }
    let uid = match number {
        Some(number) => in_range(number)?,
        None if user.is_empty() => 0,
        None => return Err(unmatched("user", user, "passwd")),
    };
    Ok(Found { name: None, uid, gid: 0, home: "/".to_owned() })
}

fn find_group(groups: &[Group], wanted: &str) -> Result<u32> {
    let number = wanted.parse::<i64>().ok();
    let found = groups.iter().find(|group| group.name == wanted || number == Some(i64::from(group.gid)));
    match (found, number) {
        (Some(group), _) => Ok(group.gid),
        (None, Some(number)) => in_range(number),
        (None, None) => Err(unmatched("group", wanted, "group")),
    }
}

fn in_range(number: i64) -> Result<u32> {
    if !(0..=MAX_ID).contains(&number) {
        return Err(Error::internal("uids and gids must be in range 0-2147483647"));
    }
    u32::try_from(number).map_err(|_| Error::internal("uids and gids must be in range 0-2147483647"))
}

fn unmatched(what: &str, name: &str, file: &str) -> Error {
    Error::internal(format!("unable to find {what} {name}: no matching entries in {file} file"))
}

fn parse_passwd(text: &str) -> Vec<Account> {
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?.to_owned();
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default().to_owned();
        Some(Account { name, uid, gid, home })
    };
    text.lines().filter_map(line).collect()
}

fn parse_groups(text: &str) -> Vec<Group> {
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?.to_owned();
        let gid = id(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default();
        let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
        Some(Group { name, gid, members })
    };
    text.lines().filter_map(line).collect()
}

/// A decimal id without sign that fits 31 bits.
fn id(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<u32>().ok().filter(|number| i64::from(*number) <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/srv/web:\nevil:x:4294967296:0::/:\nodd:x:-1:0::/:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\nweb:x:1000:\naudio:x:29:web\n";

    fn ask(user: &str, add: &[&str]) -> Result<Identity> {
        let add: Vec<_> = add.iter().map(|name| (*name).to_owned()).collect();
        resolve_in(PASSWD, GROUP, user, &add)
    }

    #[test]
    fn names_and_numbers_find_the_same_account() {
        let web = Identity { uid: 1000, gid: 1000, groups: vec![1000, 10, 29], home: "/srv/web".to_owned() };
        assert_eq!(ask("web", &[]), Ok(web.clone()));
        assert_eq!(ask("1000", &[]), Ok(web));
    }

    #[test]
    fn nobody_named_is_root() {
        let root = ask("", &[]).unwrap();
        assert_eq!((root.uid, root.gid, root.groups, root.home), (0, 0, vec![0, 10], "/root".to_owned()));
        let bare = resolve_in("", "", "", &[]).unwrap();
        assert_eq!((bare.uid, bare.groups, bare.home), (0, vec![0], "/".to_owned()));
    }

    #[test]
    fn a_group_given_replaces_the_accounts_own() {
        let web = ask("web:audio", &[]).unwrap();
        assert_eq!((web.gid, web.groups), (29, vec![29]));
        assert_eq!(ask("7:8", &["wheel", "99"]).unwrap().groups, vec![8, 10, 99]);
    }

    #[test]
    fn refusals_are_dockers() {
        let text = |user: &str, add: &[&str]| ask(user, add).unwrap_err().message().to_owned();
        assert_eq!(text("nouser", &[]), "unable to find user nouser: no matching entries in passwd file");
        assert_eq!(text("root:nogrp", &[]), "unable to find group nogrp: no matching entries in group file");
        assert_eq!(text("1:2:3", &[]), "unable to find group 2:3: no matching entries in group file");
        for user in ["99999999999", "-1", "2147483648"] {
            assert_eq!(text(user, &[]), "uids and gids must be in range 0-2147483647");
        }
        assert_eq!(text("", &["-1"]), "uids and gids must be in range 0-2147483647");
        assert_eq!(text("", &["no1"]), "unable to find group no1: no matching entries in group file");
    }

    #[test]
    fn numbers_that_wrap_are_no_accounts() {
        assert!(ask("evil", &[]).is_err());
        assert!(ask("odd", &[]).is_err());
        assert!(ask("99999999999999999999999", &[]).is_err());
    }

    #[test]
    fn files_come_from_the_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("etc/group")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(resolve(&root, "web", &[]).unwrap().uid, 1000);
    }
}
