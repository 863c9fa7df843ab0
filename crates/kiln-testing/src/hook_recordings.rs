//! What engines of Nix have told their build hooks.

/// What Nix 2.8.0 and 2.34.8 said, from the settings on, and whether the hook accepted: then inputs and outputs follow.
pub const HOOK_RECORDINGS: [(&[u8], bool); 4] = [
    (include_bytes!("data/hook-nix-2.8.0-accepted"), true),
    (include_bytes!("data/hook-nix-2.8.0-declined"), false),
    (include_bytes!("data/hook-nix-2.34.8-accepted"), true),
    (include_bytes!("data/hook-nix-2.34.8-declined"), false),
];
