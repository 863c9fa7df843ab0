//! Who asks a server of S3: keys from the environment, or from the file that Amazon's programs share.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Far more than such files have, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The section of the file that counts if nobody names one.
const USUAL_PROFILE: &str = "default";

/// A key and what proves that one has it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    key: String,
    secret: String,
    token: Option<String>,
}

impl S3Credentials {
    /// An access key, its secret, and the token of a session if they are for one.
    #[must_use]
    pub fn new(key: impl Into<String>, secret: impl Into<String>, token: Option<String>) -> Self {
        Self { key: key.into(), secret: secret.into(), token }
    }

    pub(super) fn to_signing(&self) -> rusty_s3::Credentials {
        match &self.token {
            None => rusty_s3::Credentials::new(&*self.key, &*self.secret),
            Some(token) => rusty_s3::Credentials::new_with_token(&*self.key, &*self.secret, &**token),
        }
    }
}

impl std::fmt::Debug for S3Credentials {
    /// Without what nobody may know.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Credentials").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why there are no credentials where they should be.
#[derive(Debug, Error)]
#[error("cannot read the credentials of profile '{profile}' in '{}': {reason}", file.display())]
pub struct S3CredentialsError {
    /// The section.
    pub profile: String,
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub reason: io::Error,
}

/// What an environment says about credentials.
#[derive(Clone, Debug, Default)]
pub struct AwsEnvironment {
    keys: Option<S3Credentials>,
    profile: Option<String>,
    file: Option<PathBuf>,
}

impl AwsEnvironment {
    /// Of the variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_PROFILE`,
    /// `AWS_SHARED_CREDENTIALS_FILE` and `HOME`. `variable` gives the value of one.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| variable(name).filter(|value| !value.is_empty());
        let keys = value("AWS_ACCESS_KEY_ID").zip(value("AWS_SECRET_ACCESS_KEY"));
        let keys = keys.map(|(key, secret)| S3Credentials::new(key, secret, value("AWS_SESSION_TOKEN")));
        let usual = || Some(Path::new(&value("HOME")?).join(".aws/credentials"));
        let file = value("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(usual);
        Self { keys, profile: value("AWS_PROFILE"), file }
    }

    /// The credentials of a profile, or the usual ones: the environment's own, or else those of its profile. Nothing if
    /// there are none, so that requests go without. Blocks.
    ///
    /// # Errors
    /// The file can't be read, or lacks the profile that somebody has named.
    pub fn credentials(&self, profile: Option<&str>) -> Result<Option<S3Credentials>, S3CredentialsError> {
        if profile.is_none() && self.keys.is_some() {
            return Ok(self.keys.clone());
        }
        let named = profile.or(self.profile.as_deref());
        let section = named.unwrap_or(USUAL_PROFILE);
        let failed = |reason: io::Error| S3CredentialsError {
            profile: kiln_events::quoted(section.as_bytes()),
            file: self.file.clone().unwrap_or_default(),
            reason,
        };
        let found = match self.file.as_deref().map(read) {
            None => None,
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound && named.is_none() => None,
            Some(text) => parse(&text.map_err(failed)?, section),
        };
        match (found, named) {
            (None, Some(_)) => Err(failed(io::Error::other("there is no such profile with keys"))),
            (found, _) => Ok(found),
        }
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(LARGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The keys of a section of a credentials file: `[NAME]`, then lines `name = value`; those that begin with `#` or `;` are
/// comments.
fn parse(text: &str, section: &str) -> Option<S3Credentials> {
    let (mut is_ours, mut key, mut secret, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_ours = name.trim() == section;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_ours) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => key = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(S3Credentials::new(key?, secret?, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[default]\naws_access_key_id = K1\naws_secret_access_key=S1=\n\n[ other ]\nregion = x\n\
        aws_access_key_id=K2\naws_secret_access_key = S2\naws_session_token = T2\n[half]\naws_access_key_id=K3\n";

    #[test]
    fn sections_of_the_file() {
        let keys = |key: &str, secret: &str, token: Option<&str>| {
            Some(S3Credentials::new(key, secret, token.map(str::to_owned)))
        };
        assert_eq!(parse(FILE, "default"), keys("K1", "S1=", None));
        assert_eq!(parse(FILE, "other"), keys("K2", "S2", Some("T2")));
        assert_eq!((parse(FILE, "half"), parse(FILE, "none"), parse("[", "")), (None, None, None));
    }

    #[test]
    fn who_counts_before_whom() {
        let environment = |variables: &'static [(&str, &str)]| {
            AwsEnvironment::new(move |name| {
                let found = variables.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let own =
            environment(&[("AWS_ACCESS_KEY_ID", "K"), ("AWS_SECRET_ACCESS_KEY", "S"), ("HOME", "/nowhere")]);
        assert_eq!(own.credentials(None).unwrap(), Some(S3Credentials::new("K", "S", None)));
        let error = own.credentials(Some("me")).unwrap_err().to_string();
        assert!(error.contains("profile 'me' in '/nowhere/.aws/credentials'"), "{error}");
        assert_eq!(environment(&[("HOME", "/nowhere")]).credentials(None).unwrap(), None);
        assert_eq!(environment(&[]).credentials(None).unwrap(), None);
        assert!(environment(&[("AWS_PROFILE", "me")]).credentials(None).is_err());
    }

    #[test]
    fn secrets_are_not_told() {
        let keys = S3Credentials::new("K", "very-secret", Some("token".to_owned()));
        assert_eq!(format!("{keys:?}"), "S3Credentials { key: \"K\", .. }");
    }
}
