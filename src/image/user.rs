//! Who a container runs as, by the image's own `/etc/passwd` and `/etc/group`.
//!
//! The rules are containerd's (`WithUser` and `WithAdditionalGIDs` in its oci package): a number need not be known, a name must be; the
//! group is the one asked for, else the user's in passwd, else 0; and whoever the user is, the groups that list his name are his too.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// containerd takes a larger number for a name (`maxUserID`).
const MAX_ID: u32 = i32::MAX as u32;
const NO_HOME: &str = "/";

/// The identity of a container's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups; the first is `gid`, so that it counts also where only these are looked at (CVE-2023-25173).
    pub groups: Vec<u32>,
    /// For HOME, where no environment sets it; `/` if the image knows no better.
    pub home: String,
    /// Empty if the image does not name this user.
    pub name: String,
}

/// The two files' texts, as an image's record keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    pub passwd: String,
    pub group: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

impl Accounts {
    /// passwd(5): name:password:UID:GID:GECOS:directory:shell. Lines that are not so are skipped, as the C library does.
    fn users(&self) -> impl Iterator<Item = Account<'_>> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { return None };
            let home = rest.get(1).copied().unwrap_or_default();
            (!name.is_empty()).then_some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
        })
    }

    /// group(5): name:password:GID:members.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, Vec<&str>)> {
        self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members @ ..] = fields.as_slice() else { return None };
            (!name.is_empty()).then_some((*name, gid.parse().ok()?, members.first().map(|list| list.split(',').collect()).unwrap_or_default()))
        })
    }

    /// Reads `USER` or `USER:GROUP`, each a number or a name; empty is root.
    pub fn user(&self, spec: &str) -> Result<User> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (spec, None),
        };
        let gid = match group.map(|group| (group, id(group))) {
            None => None,
            Some((_, Some(gid))) => Some(gid),
            Some((name, None)) => {
                let known = self.groups().find(|(known, ..)| *known == name).map(|(_, gid, _)| gid);
                Some(known.ok_or_else(|| Error::said(format!("group {name:?} is not in the image's /etc/group")))?)
            }
        };
        match (user, id(user)) {
            ("", _) => Ok(self.user_by_id(0, gid)),
            (_, Some(uid)) => Ok(self.user_by_id(uid, gid)),
            (name, None) => {
                let account = self.users().find(|account| account.name == name);
                let account = account.ok_or_else(|| Error::said(format!("user {name:?} is not in the image's /etc/passwd")))?;
                Ok(self.identity(account.uid, gid, Some(account)))
            }
        }
    }

    /// The user with this number, whether the image knows him or not.
    pub fn user_by_id(&self, uid: u32, gid: Option<u32>) -> User {
        self.identity(uid, gid, self.users().find(|account| account.uid == uid))
    }

    fn identity(&self, uid: u32, gid: Option<u32>, account: Option<Account<'_>>) -> User {
        let gid = gid.or(account.as_ref().map(|account| account.gid)).unwrap_or(0);
        let name = account.as_ref().map(|account| account.name).unwrap_or_default();
        let mut groups = vec![gid];
        if !name.is_empty() {
            // A group of the user's own name is not supplementary, even if it lists him.
            for (_, gid, _) in self.groups().filter(|(group, _, members)| *group != name && members.contains(&name)) {
                if !groups.contains(&gid) {
                    groups.push(gid);
                }
            }
        }
        let home = account.as_ref().map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or(NO_HOME);
        User { uid, gid, groups, home: home.to_owned(), name: name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken line\n:x:7:7::/:\nhalf:x:8\n+nis\nbig:x:4294967295:1::/:\n\
                     app:x:1000:1000:An app:/home/app:/bin/sh\nnohome:x:5:6\nworse:x:-1:0::/:\n"
                .into(),
            group: "root:x:0:\n#comment\nteam:x:2000:app,root\napp:x:1000:app\nodd:x:nan:app\nmore:x:2001:other,app\nshort:x:9\n".into(),
        }
    }

    #[test]
    fn a_user_is_found_as_containerd_finds_him() {
        let user = |uid, gid, groups: &[u32], home: &str, name: &str| User { uid, gid, groups: groups.to_vec(), home: home.into(), name: name.into() };
        for (spec, expected) in [
            ("", user(0, 0, &[0, 2000], "/root", "root")),
            ("0", user(0, 0, &[0, 2000], "/root", "root")),
            ("app", user(1000, 1000, &[1000, 2000, 2001], "/home/app", "app")),
            ("1000", user(1000, 1000, &[1000, 2000, 2001], "/home/app", "app")),
            ("app:team", user(1000, 2000, &[2000, 2001], "/home/app", "app")),
            ("1000:7", user(1000, 7, &[7, 2000, 2001], "/home/app", "app")),
            ("app:", user(1000, 1000, &[1000, 2000, 2001], "/home/app", "app")),
            ("4711", user(4711, 0, &[0], "/", "")),
            ("4711:4712", user(4711, 4712, &[4712], "/", "")),
            ("4711:short", user(4711, 9, &[9], "/", "")),
            ("nohome", user(5, 6, &[6], "/", "nohome")),
        ] {
            assert_eq!(accounts().user(spec).unwrap(), expected, "{spec:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_its_file() {
        assert_eq!(accounts().user("nobody").unwrap_err().to_string(), r#"user "nobody" is not in the image's /etc/passwd"#);
        assert_eq!(accounts().user("app:crew").unwrap_err().to_string(), r#"group "crew" is not in the image's /etc/group"#);
        assert!(accounts().user("4294967296").is_err() && accounts().user("-1").is_err() && accounts().user("half").is_err());
    }
}
