//! Made-up messages: one of every operation, with values from a seed.

use std::collections::{BTreeMap, BTreeSet};

use kiln_derivation::{BasicDerivation, Derivation, DerivationOutput};
use kiln_events::{ActivityId, ActivityType, BuildStatus, Field, Verbosity};
use kiln_hash::{Algorithm, Hash, Sha256};
use kiln_narinfo::{PathInfo, Realisation, RealisationId, Signature};
use kiln_protocol::serve;
use kiln_protocol::value::*;
use kiln_protocol::worker::{self, LogError, LogMessage, Operation, ResultMessage, StartActivity};
use kiln_store_path::*;

pub(crate) struct Samples {
    state: u64,
}

impl Samples {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number of SplitMix64.
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn option<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn many<T, C: FromIterator<T>>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> C {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.many(|samples| samples.number() as u8)
    }

    fn text<T: From<String>>(&mut self) -> T {
        T::from(format!("text {}", self.number()))
    }

    fn name(&mut self) -> StorePathName {
        format!("name-{}", self.below(1000)).parse().unwrap()
    }

    fn digest(&mut self) -> [u8; 20] {
        let numbers = [self.number(), self.number(), self.number()];
        std::array::from_fn(|index| numbers[index / 8].to_le_bytes()[index % 8])
    }

    fn path(&mut self) -> StorePath {
        StorePath::from_parts(&self.digest(), &self.name())
    }

    fn paths(&mut self) -> BTreeSet<StorePath> {
        self.many(Self::path)
    }

    fn derivation_path(&mut self) -> StorePath {
        StorePath::from_parts(&self.digest(), &format!("{}.drv", self.name()).parse().unwrap())
    }

    fn output(&mut self) -> OutputName {
        ["out", "dev", "lib"][self.below(3) as usize].parse().unwrap()
    }

    fn derived_path(&mut self) -> DerivedPath {
        match self.below(4) {
            0 => DerivedPath::Opaque(self.path()),
            1 => DerivedPath::Opaque(self.derivation_path()),
            kind => {
                let outputs = if kind == 2 { self.many(Self::output) } else { Vec::new() };
                let derivation = SingleDerivedPath { path: self.derivation_path(), outputs };
                let names: BTreeSet<_> = self.many(Self::output);
                let outputs = if names.is_empty() { OutputsSpec::All } else { OutputsSpec::Names(names) };
                DerivedPath::Built { derivation, outputs }
            }
        }
    }

    /// Something that every version can ask for.
    fn old_derived_path(&mut self) -> DerivedPath {
        let outputs = OutputsSpec::Names([self.output()].into());
        DerivedPath::Built { derivation: self.derivation_path().into(), outputs }
    }

    fn sha256(&mut self) -> Sha256 {
        Sha256::of(self.number().to_le_bytes())
    }

    fn content_address(&mut self) -> ContentAddress {
        let AddressingMethod { method, algorithm } = self.method();
        ContentAddress { method, hash: Hash::of(algorithm, self.number().to_le_bytes()) }
    }

    fn method(&mut self) -> AddressingMethod {
        let algorithm = Algorithm::ALL[self.below(5) as usize];
        match self.below(4) {
            0 => AddressingMethod { method: ContentAddressMethod::Text, algorithm: Algorithm::Sha256 },
            1 => AddressingMethod { method: ContentAddressMethod::Flat, algorithm },
            2 => AddressingMethod { method: ContentAddressMethod::Nar, algorithm },
            _ => AddressingMethod { method: ContentAddressMethod::Git, algorithm },
        }
    }

    fn signature(&mut self) -> Signature {
        Signature::new("key-1", [self.number() as u8; 64]).unwrap()
    }

    fn path_info(&mut self) -> PathInfo {
        PathInfo {
            path: self.path(),
            nar_hash: self.sha256(),
            nar_size: self.number(),
            references: self.paths(),
            deriver: self.option(Self::derivation_path),
            registration_time: self.number(),
            ultimate: self.flag(),
            signatures: self.many(Self::signature),
            content_address: self.option(Self::content_address),
        }
    }

    fn realisation_id(&mut self) -> RealisationId {
        RealisationId { derivation_hash: self.sha256().into(), output: self.output() }
    }

    fn realisation(&mut self) -> Realisation {
        let mut realisation = Realisation::new(self.realisation_id(), self.path());
        realisation.signatures = self.many(Self::signature);
        realisation
    }

    fn derivation(&mut self) -> DerivationToBuild {
        let path = self.derivation_path();
        let outputs = match self.below(4) {
            0 => BTreeMap::from([(OutputName::out(), DerivationOutput::Deferred)]),
            1 => {
                let name = Derivation::name_of_path(&path).unwrap();
                let address = self.content_address();
                let address = ContentAddress { method: ContentAddressMethod::Flat, ..address };
                let output =
                    DerivationOutput::fixed(&StoreDir::default(), &name, &OutputName::out(), address)
                        .unwrap();
                BTreeMap::from([(OutputName::out(), output)])
            }
            2 => {
                let AddressingMethod { method, algorithm } = self.method();
                BTreeMap::from([(OutputName::out(), DerivationOutput::Impure { method, algorithm })])
            }
            _ => self.many(|samples| (samples.output(), DerivationOutput::InputAddressed(samples.path()))),
        };
        let mut derivation = Derivation {
            name: Derivation::name_of_path(&path).unwrap(),
            outputs,
            input_derivations: BTreeMap::new(),
            input_sources: self.paths(),
            system: self.bytes(),
            builder: self.bytes(),
            arguments: self.many(Self::bytes),
            environment: BTreeMap::new(),
            structured_attrs: None,
        };
        let mut environment: BTreeMap<_, _> = self.many(|samples| (samples.bytes(), samples.bytes()));
        if self.flag() {
            environment.insert(b"__json".to_vec(), br#"{"a":[1,true]}"#.to_vec());
        }
        derivation.set_written_environment(environment).unwrap();
        DerivationToBuild { path, derivation: BasicDerivation::new(derivation).unwrap() }
    }

    fn mode(&mut self) -> BuildMode {
        [BuildMode::Normal, BuildMode::Repair, BuildMode::Check][self.below(3) as usize]
    }

    fn build_result(&mut self) -> RealisedBuildResult {
        RealisedBuildResult {
            status: BuildStatus::from_wire_code(self.below(15)).unwrap(),
            error_message: self.text(),
            times_built: self.number(),
            is_non_deterministic: self.flag(),
            start_time: self.number(),
            stop_time: self.number(),
            cpu_user: self.option(Self::number),
            cpu_system: self.option(Self::number),
            built_outputs: self.many(|samples| {
                let realisation = samples.realisation();
                (realisation.id.clone(), realisation)
            }),
        }
    }

    fn substitutable(&mut self) -> SubstitutableInfo {
        SubstitutableInfo {
            deriver: self.option(Self::derivation_path),
            references: self.paths(),
            download_size: self.number(),
            nar_size: self.number(),
        }
    }

    fn set_options(&mut self) -> worker::request::SetOptions {
        worker::request::SetOptions {
            keep_failed: self.flag(),
            keep_going: self.flag(),
            verbosity: self.number(),
            max_silent_time: self.number(),
            use_substitutes: self.flag(),
            overrides: self.many(|samples| (samples.text(), samples.bytes())),
            ..Default::default()
        }
    }

    pub(crate) fn worker_request(&mut self, operation: Operation) -> worker::Request {
        use worker::request::*;
        macro_rules! one_path {
            ($($name:ident),*; $($other:pat => $make:expr,)*) => {
                match operation {
                    $( Operation::$name => $name { path: self.path() }.into(), )*
                    $( $other => $make.into(), )*
                }
            };
        }
        one_path! {
            IsValidPath, HasSubstitutes, QueryPathHash, QueryReferences, QueryReferrers, EnsurePath, AddTempRoot,
            QueryDeriver, QuerySubstitutablePathInfo, QueryDerivationOutputs, QueryPathInfo, QueryDerivationOutputNames,
            QueryValidDerivers, NarFromPath, QueryDerivationOutputMap;
            Operation::AddToStore => AddToStore {
                name: self.name(), method: self.method(), references: self.paths(), repair: self.flag(),
            },
            Operation::AddTextToStore => AddTextToStore {
                name: self.name(), text: self.bytes(), references: self.paths(),
            },
            Operation::BuildPaths => BuildPaths { paths: self.many(Self::derived_path), mode: self.mode() },
            Operation::AddIndirectRoot => AddIndirectRoot { link: self.bytes() },
            Operation::SyncWithGC => SyncWithGC {},
            Operation::FindRoots => FindRoots {},
            Operation::ExportPath => ExportPath { path: self.path(), sign: self.number() },
            Operation::SetOptions => self.set_options(),
            Operation::CollectGarbage => CollectGarbage {
                action: [
                    GarbageAction::ReturnLive, GarbageAction::ReturnDead,
                    GarbageAction::DeleteDead, GarbageAction::DeleteSpecific,
                ][self.below(4) as usize],
                paths: self.paths(), ignore_liveness: self.flag(), max_freed: self.number(),
                obsolete_1: 0, obsolete_2: 0, obsolete_3: 0,
            },
            Operation::QueryAllValidPaths => QueryAllValidPaths {},
            Operation::ImportPaths => ImportPaths {},
            Operation::QueryPathFromHashPart => QueryPathFromHashPart { digest: self.path().digest().to_owned() },
            Operation::QuerySubstitutablePathInfos => QuerySubstitutablePathInfos {
                paths: self.many(|samples| (samples.path(), samples.option(Self::content_address))),
            },
            Operation::QueryValidPaths => QueryValidPaths { paths: self.paths(), substitute: self.flag() },
            Operation::QuerySubstitutablePaths => QuerySubstitutablePaths { paths: self.paths() },
            Operation::OptimiseStore => OptimiseStore {},
            Operation::VerifyStore => VerifyStore { check_contents: self.flag(), repair: self.flag() },
            Operation::BuildDerivation => BuildDerivation { derivation: self.derivation(), mode: self.mode() },
            Operation::AddSignatures => AddSignatures { path: self.path(), signatures: self.many(Self::signature) },
            Operation::AddToStoreNar => AddToStoreNar {
                info: self.path_info(), repair: self.flag(), dont_check_signatures: self.flag(),
            },
            Operation::QueryMissing => QueryMissing { paths: self.many(Self::derived_path) },
            Operation::RegisterDrvOutput => RegisterDrvOutput { realisation: self.realisation() },
            Operation::QueryRealisation => QueryRealisation { output: self.realisation_id() },
            Operation::AddMultipleToStore => AddMultipleToStore {
                repair: self.flag(), dont_check_signatures: self.flag(),
            },
            Operation::AddBuildLog => AddBuildLog { derivation: BaseName(self.derivation_path()) },
            Operation::BuildPathsWithResults => BuildPathsWithResults {
                paths: self.many(Self::derived_path), mode: self.mode(),
            },
            Operation::AddPermRoot => AddPermRoot { path: self.path(), link: self.bytes() },
        }
    }

    pub(crate) fn worker_response(&mut self, operation: Operation) -> worker::Response {
        use worker::Response::{self as R};
        use worker::response::*;
        match operation {
            Operation::IsValidPath => R::IsValidPath(self.flag()),
            Operation::HasSubstitutes => R::HasSubstitutes(self.flag()),
            Operation::QueryPathHash => R::QueryPathHash(self.sha256()),
            Operation::QueryReferences => R::QueryReferences(self.paths()),
            Operation::QueryReferrers => R::QueryReferrers(self.paths()),
            Operation::AddToStore => R::AddToStore(AddedPath::Info(self.path_info())),
            Operation::AddTextToStore => R::AddTextToStore(self.path()),
            Operation::BuildPaths => R::BuildPaths(Acknowledged),
            Operation::EnsurePath => R::EnsurePath(Acknowledged),
            Operation::AddTempRoot => R::AddTempRoot(Acknowledged),
            Operation::AddIndirectRoot => R::AddIndirectRoot(Acknowledged),
            Operation::SyncWithGC => R::SyncWithGC(Acknowledged),
            Operation::FindRoots => R::FindRoots(self.many(|samples| (samples.bytes(), samples.path()))),
            Operation::ExportPath => R::ExportPath(Acknowledged),
            Operation::QueryDeriver => R::QueryDeriver(self.option(Self::path)),
            Operation::SetOptions => R::SetOptions(()),
            Operation::CollectGarbage => R::CollectGarbage(CollectedGarbage {
                paths: self.many(Self::bytes),
                bytes_freed: self.number(),
                obsolete: 0,
            }),
            Operation::QuerySubstitutablePathInfo => {
                R::QuerySubstitutablePathInfo(self.option(Self::substitutable))
            }
            Operation::QueryDerivationOutputs => R::QueryDerivationOutputs(self.paths()),
            Operation::QueryAllValidPaths => R::QueryAllValidPaths(self.paths()),
            Operation::QueryPathInfo => {
                R::QueryPathInfo(QueriedPathInfo(self.option(|samples| samples.path_info().into())))
            }
            Operation::ImportPaths => R::ImportPaths(self.many(Self::path)),
            Operation::QueryDerivationOutputNames => R::QueryDerivationOutputNames(self.many(Self::output)),
            Operation::QueryPathFromHashPart => R::QueryPathFromHashPart(self.option(Self::path)),
            Operation::QuerySubstitutablePathInfos => R::QuerySubstitutablePathInfos(self.many(|samples| {
                SubstitutablePathInfo { path: samples.path(), info: samples.substitutable() }
            })),
            Operation::QueryValidPaths => R::QueryValidPaths(self.paths()),
            Operation::QuerySubstitutablePaths => R::QuerySubstitutablePaths(self.paths()),
            Operation::QueryValidDerivers => R::QueryValidDerivers(self.paths()),
            Operation::OptimiseStore => R::OptimiseStore(Acknowledged),
            Operation::VerifyStore => R::VerifyStore(self.flag()),
            Operation::BuildDerivation => R::BuildDerivation(self.build_result()),
            Operation::AddSignatures => R::AddSignatures(Acknowledged),
            Operation::NarFromPath => R::NarFromPath(()),
            Operation::AddToStoreNar => R::AddToStoreNar(()),
            Operation::QueryMissing => R::QueryMissing(MissingPaths {
                will_build: self.paths(),
                will_substitute: self.paths(),
                unknown: self.paths(),
                download_size: self.number(),
                nar_size: self.number(),
            }),
            Operation::QueryDerivationOutputMap => R::QueryDerivationOutputMap(
                self.many(|samples| (samples.output(), samples.option(Self::path))),
            ),
            Operation::RegisterDrvOutput => R::RegisterDrvOutput(()),
            Operation::QueryRealisation => {
                R::QueryRealisation(QueriedRealisation::Realisations(self.many(Self::realisation)))
            }
            Operation::AddMultipleToStore => R::AddMultipleToStore(()),
            Operation::AddBuildLog => R::AddBuildLog(Acknowledged),
            Operation::BuildPathsWithResults => R::BuildPathsWithResults(self.many(|samples| {
                KeyedBuildResult { path: samples.derived_path(), result: samples.build_result() }
            })),
            Operation::AddPermRoot => R::AddPermRoot(self.bytes()),
        }
    }

    fn fields(&mut self) -> Vec<Field> {
        self.many(|samples| {
            if samples.flag() { Field::Int(samples.number()) } else { Field::Text(samples.bytes().into()) }
        })
    }

    /// One of eight kinds, as every version can say it.
    pub(crate) fn log_message(&mut self, kind: u8) -> LogMessage {
        match kind {
            0 => LogMessage::Next(self.bytes().into()),
            1 => LogMessage::Read(self.number()),
            2 => LogMessage::Write(self.bytes()),
            3 => LogMessage::Last,
            4 => LogMessage::Error(LogError {
                traces: self.many(Self::text),
                ..LogError::new(self.bytes(), 1)
            }),
            5 => LogMessage::StartActivity(StartActivity {
                id: ActivityId(self.number()),
                level: Verbosity::from_number(self.below(8)),
                activity_type: ActivityType(self.number()),
                text: self.bytes().into(),
                fields: self.fields(),
                parent: ActivityId(self.number()),
            }),
            6 => LogMessage::StopActivity(ActivityId(self.number())),
            _ => LogMessage::Result(ResultMessage {
                id: ActivityId(self.number()),
                result_type: self.number(),
                fields: self.fields(),
            }),
        }
    }

    pub(crate) fn serve_request(&mut self, command: serve::Command) -> serve::Request {
        use serve::Command as C;
        use serve::request::*;
        match command {
            C::QueryValidPaths => {
                QueryValidPaths { lock: self.flag(), substitute: self.flag(), paths: self.paths() }.into()
            }
            C::QueryPathInfos => QueryPathInfos { paths: self.paths() }.into(),
            C::DumpStorePath => DumpStorePath { path: self.path() }.into(),
            C::ImportPaths => ImportPaths {}.into(),
            C::ExportPaths => ExportPaths { sign: self.number(), paths: self.paths() }.into(),
            C::BuildPaths => {
                BuildPaths { paths: self.many(Self::old_derived_path), options: self.build_options() }.into()
            }
            C::QueryClosure => QueryClosure { include_outputs: self.flag(), paths: self.paths() }.into(),
            C::BuildDerivation => {
                BuildDerivation { derivation: self.derivation(), options: self.build_options() }.into()
            }
            C::AddToStoreNar => AddToStoreNar { info: self.path_info() }.into(),
        }
    }

    fn build_options(&mut self) -> serve::request::BuildOptions {
        serve::request::BuildOptions {
            max_silent_time: self.number(),
            build_timeout: self.number(),
            max_log_size: self.number(),
            repeats: self.number(),
            enforce_determinism: self.flag(),
            keep_failed: self.flag(),
        }
    }

    pub(crate) fn queried_path_infos(&mut self) -> serve::response::QueriedPathInfos {
        serve::response::QueriedPathInfos(self.many(|samples| (samples.path(), samples.path_info().into())))
    }
}
