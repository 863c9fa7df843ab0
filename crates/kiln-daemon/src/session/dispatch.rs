//! Which request is answered where.

use kiln_protocol::value::Acknowledged;
use kiln_protocol::worker::response::QueriedPathInfo;
use kiln_protocol::worker::{Request, Response};

use super::failure::Failure;
use super::payload::Payload;
use super::{Reply, Session};

impl Session {
    /// The answer to what clients ask thousands of times in a row, if it is in memory. [`answer`](Self::answer) says the same, but
    /// the future that all operations share takes longer to make than such an answer.
    pub(super) fn answer_at_once(&self, request: &Request) -> Option<Response> {
        match request {
            Request::QueryPathInfo(asked) => {
                let info = self.known_path_info(&asked.path)?;
                Some(Response::QueryPathInfo(QueriedPathInfo(Some(info))))
            }
            Request::IsValidPath(asked) => {
                self.store().known_path_info(&asked.path).map(|_| Response::IsValidPath(true))
            }
            _ => None,
        }
    }

    /// Does what is asked.
    pub(super) async fn answer(&mut self, request: Request, payload: Payload) -> Result<Reply, Failure> {
        use Request as Q;
        use Response as A;
        Ok(Reply::Response(match request {
            Q::SetOptions(options) => A::SetOptions(self.set_options(&options)?),

            Q::IsValidPath(asked) => A::IsValidPath(self.store().is_valid(&asked.path).await?),
            Q::QueryPathInfo(asked) => A::QueryPathInfo(QueriedPathInfo(self.path_info(&asked.path).await?)),
            Q::QueryPathHash(asked) => A::QueryPathHash(self.valid_path_info(&asked.path).await?.nar_hash),
            Q::QueryReferences(asked) => {
                A::QueryReferences(self.valid_path_info(&asked.path).await?.references.clone())
            }
            Q::QueryDeriver(asked) => {
                A::QueryDeriver(self.valid_path_info(&asked.path).await?.deriver.clone())
            }
            Q::QueryReferrers(asked) => A::QueryReferrers(self.store().referrers(&asked.path).await?),
            Q::QueryValidDerivers(asked) => {
                A::QueryValidDerivers(self.store().valid_derivers(&asked.path).await?)
            }
            Q::QueryAllValidPaths(_) => A::QueryAllValidPaths(self.store().all_paths().await?),
            Q::QueryPathFromHashPart(asked) => {
                A::QueryPathFromHashPart(self.path_by_digest(&asked.digest).await?)
            }
            Q::QueryValidPaths(asked) => A::QueryValidPaths(self.valid_paths(asked).await?),
            Q::QueryDerivationOutputs(asked) => {
                A::QueryDerivationOutputs(self.output_paths(&asked.path).await?)
            }
            Q::QueryDerivationOutputNames(asked) => {
                A::QueryDerivationOutputNames(self.outputs(&asked.path).await?.into_keys().collect())
            }
            Q::QueryDerivationOutputMap(asked) => {
                A::QueryDerivationOutputMap(self.outputs(&asked.path).await?)
            }
            Q::QueryMissing(asked) => A::QueryMissing(self.missing(&asked.paths).await?),
            Q::QueryRealisation(asked) => A::QueryRealisation(self.realisation(&asked.output).await?),
            Q::HasSubstitutes(asked) => {
                A::HasSubstitutes(!self.substitutable([asked.path].into()).await?.is_empty())
            }
            Q::QuerySubstitutablePaths(asked) => {
                A::QuerySubstitutablePaths(self.substitutable(asked.paths).await?)
            }
            Q::QuerySubstitutablePathInfo(asked) => {
                let infos = self.substitutable_infos([asked.path]).await;
                A::QuerySubstitutablePathInfo(infos.into_iter().next().map(|offered| offered.info))
            }
            Q::QuerySubstitutablePathInfos(asked) => {
                A::QuerySubstitutablePathInfos(self.substitutable_infos(asked.paths.into_keys()).await)
            }

            Q::AddToStore(object) => A::AddToStore(self.add_object(object, &payload).await?),
            Q::AddTextToStore(text) => A::AddTextToStore(self.add_text(text).await?),
            Q::AddToStoreNar(request) => A::AddToStoreNar(self.add_nar(request, &payload).await?),
            Q::AddMultipleToStore(request) => {
                A::AddMultipleToStore(self.add_multiple(&request, payload).await?)
            }
            Q::ImportPaths(_) => A::ImportPaths(self.import(&payload).await?),
            Q::AddBuildLog(request) => acknowledged(A::AddBuildLog, self.add_log(&request, &payload).await)?,
            Q::AddSignatures(request) => acknowledged(A::AddSignatures, self.add_signatures(request).await)?,
            Q::RegisterDrvOutput(request) => A::RegisterDrvOutput(self.register_output(request).await?),

            Q::BuildPaths(request) => acknowledged(A::BuildPaths, self.build_paths(request).await)?,
            Q::BuildPathsWithResults(request) => {
                A::BuildPathsWithResults(self.build_paths_with_results(request).await?)
            }
            Q::BuildDerivation(request) => A::BuildDerivation(self.build_derivation(request).await?),
            Q::EnsurePath(request) => acknowledged(A::EnsurePath, self.ensure_path(request.path).await)?,

            Q::AddTempRoot(request) => acknowledged(A::AddTempRoot, self.add_temp_root(request.path).await)?,
            Q::AddIndirectRoot(request) => {
                acknowledged(A::AddIndirectRoot, self.add_indirect_root(request.link).await)?
            }
            Q::AddPermRoot(request) => A::AddPermRoot(self.add_permanent_root(request).await?),
            Q::SyncWithGC(_) => A::SyncWithGC(Acknowledged),
            Q::FindRoots(_) => A::FindRoots(self.find_roots().await?),
            Q::CollectGarbage(request) => A::CollectGarbage(self.collect_garbage(request).await?),
            Q::VerifyStore(request) => A::VerifyStore(self.verify_store(request).await?),
            Q::OptimiseStore(_) => acknowledged(A::OptimiseStore, self.optimise_store().await)?,

            Q::ExportPath(request) => acknowledged(A::ExportPath, self.export_path(&request.path).await)?,
            Q::NarFromPath(request) => {
                let nar = self.store().read_nar(&request.path).await?;
                return Ok(Reply::Nar(A::NarFromPath(()), nar));
            }
        }))
    }
}

fn acknowledged(
    response: fn(Acknowledged) -> Response,
    done: Result<(), Failure>,
) -> Result<Response, Failure> {
    done.map(|()| response(Acknowledged))
}
