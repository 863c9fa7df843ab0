//! Taking in objects, logs and signatures.

use kiln_narinfo::{PathInfo, PublicKey, PublicKeys, Signature, SignatureSet};
use kiln_protocol::worker::request::{
    AddBuildLog, AddMultipleToStore, AddSignatures, AddTextToStore, AddToStore, AddToStoreNar,
    RegisterDrvOutput,
};
use kiln_protocol::worker::response::AddedPath;
use kiln_store::{CheckSignatures, NewObject, StreamKind, Verdict};
use kiln_store_path::{ContentAddressMethod, StorePath};
use tokio::sync::SemaphorePermit;

use super::Session;
use super::failure::Failure;
use super::multiple::MultiplePaths;
use super::payload::Payload;

/// The first version whose AddToStore sends flat files as they are, and replies with all that is known.
const NEW_FORM: u8 = 25;

/// How many signatures of a path clients without trust may bring it to.
const MOST_SIGNATURES: usize = 32;

/// How long one may be that such a client adds: the name of its key is not bounded otherwise.
const LONGEST_SIGNATURE: usize = 512;

impl Session {
    /// Also with the wish to repair, which clients send along when they evaluate, this is for everybody: what is added is what its
    /// path says.
    pub(super) async fn add_object(
        &self,
        request: AddToStore,
        payload: &Payload,
    ) -> Result<AddedPath, Failure> {
        let _permit = self.upload().await?;
        let is_new = self.dialect.version.minor >= NEW_FORM;
        let kind = match request.method.method {
            ContentAddressMethod::Flat | ContentAddressMethod::Text if is_new => StreamKind::File,
            _ => StreamKind::Nar,
        };
        let object = NewObject {
            name: request.name,
            method: request.method.method,
            algorithm: request.method.algorithm,
            references: request.references,
        };
        let info = self.store().add_stream(object, kind, payload.stream()).await?;
        self.check_repaired(request.repair, &info.path).await?;
        Ok(if is_new { AddedPath::Info((*info).clone()) } else { AddedPath::Path(info.path.clone()) })
    }

    pub(super) async fn add_text(&self, request: AddTextToStore) -> Result<StorePath, Failure> {
        let info = self.store().add_text(&request.name, request.text, request.references).await?;
        Ok(info.path.clone())
    }

    pub(super) async fn add_nar(&self, request: AddToStoreNar, payload: &Payload) -> Result<(), Failure> {
        self.may_repair(request.repair)?;
        let _permit = self.upload().await?;
        let (info, check) = self.vet(request.info, request.dont_check_signatures);
        let path = info.path.clone();
        self.store().add_nar(info, payload.stream(), check).await?;
        self.check_repaired(request.repair, &path).await
    }

    /// Adds path by path; those before a failure stay.
    pub(super) async fn add_multiple(
        &self,
        request: &AddMultipleToStore,
        payload: Payload,
    ) -> Result<(), Failure> {
        self.may_repair(request.repair)?;
        let _permit = self.upload().await?;
        let paths = MultiplePaths::new(payload, self.dialect.clone());
        while let Some(info) = paths.next_path().await? {
            let (info, check) = self.vet(PathInfo { ultimate: false, ..info }, request.dont_check_signatures);
            let path = info.path.clone();
            self.store().add_nar(info, paths.nar(), check).await?;
            self.check_repaired(request.repair, &path).await?;
        }
        Ok(())
    }

    /// What is believed of a path that is brought, and whether it needs a signature. Without trust, a client cannot say that
    /// it does not, nor that this store has built the path. The settings of a trusted client may ask for less, and bring keys.
    fn vet(&self, mut info: PathInfo, dont_check: bool) -> (PathInfo, CheckSignatures) {
        if !self.is_trusted() {
            info.ultimate = false;
            return (info, CheckSignatures::Yes);
        }
        let is_vouched_for = dont_check || !self.settings.require_sigs || {
            let claimed = PathInfo { ultimate: false, ..info.clone() };
            claimed.trust(self.store().store_dir(), &self.trusted_keys()).is_trusted()
        };
        (info, if is_vouched_for { CheckSignatures::No } else { CheckSignatures::Yes })
    }

    /// The keys that this client's settings trust. What is no key was complained of when the daemon's own were read.
    fn trusted_keys(&self) -> PublicKeys {
        let mut keys = PublicKeys::default();
        for key in self.settings.trusted_public_keys.iter().filter_map(|text| text.parse::<PublicKey>().ok())
        {
            keys.insert(key);
        }
        keys
    }

    /// Adds the paths of an export stream, as clients before 2.0 bring them; those before a failure stay. Nothing in the stream
    /// vouches for them, so that only a trusted client can do it, unless the store takes anything.
    pub(super) async fn import(&self, payload: &Payload) -> Result<Vec<StorePath>, Failure> {
        let _permit = self.upload().await?;
        let check = if self.is_trusted() { CheckSignatures::No } else { CheckSignatures::Yes };
        Ok(self.store().import_stream(payload.stream(), check).await?)
    }

    pub(super) async fn add_log(&self, request: &AddBuildLog, payload: &Payload) -> Result<(), Failure> {
        self.require_trust("you are not privileged to add logs")?;
        let _permit = self.upload().await?;
        self.store().add_log(&request.derivation.0, payload.stream()).await?;
        Ok(())
    }

    /// Anybody may, as with Nix since 2.17: a signature is believed for its key, not for who brings it. But nobody without trust
    /// makes what is said of a path grow without bounds.
    pub(super) async fn add_signatures(&self, request: AddSignatures) -> Result<(), Failure> {
        let signatures: SignatureSet = request.signatures.into_iter().collect();
        if !self.is_trusted() {
            let mut all = self.valid_path_info(&request.path).await?.signatures.clone();
            all.extend(signatures.iter().cloned());
            let is_long = |signature: &Signature| signature.as_str().len() > LONGEST_SIGNATURE;
            if all.len() > MOST_SIGNATURES || signatures.iter().any(is_long) {
                let path = self.store().print(&request.path);
                let refusal = "because you are not in 'trusted-users'";
                return Err(Failure::new(format!(
                    "you may not add so many or so long signatures to '{path}' {refusal}"
                )));
            }
        }
        Ok(self.store().add_signatures(&request.path, signatures).await?)
    }

    pub(super) async fn register_output(&self, request: RegisterDrvOutput) -> Result<(), Failure> {
        if !self.store().config().realisations {
            return Err(Failure::new(
                "experimental Nix feature 'ca-derivations' is disabled; use '--extra-experimental-features \
                 ca-derivations' to override",
            ));
        }
        self.require_trust("you are not privileged to register realisations")?;
        Ok(self.store().register_realisation(request.realisation).await?)
    }

    /// Waits until this client's user may have another thread for something that streams in.
    async fn upload(&self) -> Result<SemaphorePermit<'_>, Failure> {
        Ok(self.peer.share.uploads.acquire().await?)
    }

    fn may_repair(&self, repair: bool) -> Result<(), Failure> {
        let refusal = "repairing is not allowed because you are not in 'trusted-users'";
        if repair { self.require_trust(refusal) } else { Ok(()) }
    }

    /// A client that repairs brings what is valid already, too. What is good need not be replaced.
    async fn check_repaired(&self, repair: bool, path: &StorePath) -> Result<(), Failure> {
        if !repair {
            return Ok(());
        }
        match self.store().verify_contents(path).await? {
            Verdict::Good | Verdict::Recorded => Ok(()),
            Verdict::Missing | Verdict::Modified { .. } | Verdict::NotValid => {
                let path = self.store().print(path);
                Err(Failure::new(format!(
                    "the files of '{path}' are damaged, and cannot be replaced by adding them; 'nix-store --verify \
                     --check-contents --repair' tries to"
                )))
            }
        }
    }
}
