# What clients of a daemon build in tests: derivations whose builders are shell scripts.
let
  mk = name: script: extra: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
    KILN_TEST_STORE = toString ./.;
  } // extra);
  graph = depth: if depth == 0 then [ ] else
    let below = graph (depth - 1); in
    map (n: mk "node-${toString depth}-${toString n}" "echo ${toString below} > $out" { }) [ 1 2 3 ];
in rec {
  a = mk "a-1" "echo building a; echo hi > $out" { };
  b = mk "b-1" "echo done b; cat ${a} > $out; mkdir $dev; echo x > $dev/x" { outputs = [ "out" "dev" ]; };
  fail = mk "fail-1" "echo line1; echo line2; exit 3" { };
  depfail = mk "depfail-1" "cat ${fail} > $out" { };
  timeout = mk "timeout-1" "sleep 600; echo > $out" { };
  badfod = mk "badfod-1" "echo x > $out" {
    outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  };
  fod = mk "fod-1" "echo x > $out" {
    outputHash = "sha256-c8s4WKaHqElMozIwUwFigvPa051Cz2LKTnndoqrH2aw=";
  };
  nondet = mk "nondet-1" "date +%s%N > $out" { };
  missingsys = mk "missingsys-1" "echo > $out" { system = "riscv64-linux"; };
  big = mk "big" "echo ${toString (graph 5)} > $out" { };
  source = mk "source-1" "cat ${./default.nix} > $out" { };
  slow = mk "slow-1" "sleep 4; echo slowly; sleep 4; echo slow > $out" { };
  silent = mk "silent-1" "sleep 600" { };
  loud = mk "loud-1" "yes 0123456789012345678901234567890123456789 | head -c 12000000; echo > $out" { };
  lines = mk "lines-1" "for n in 1 2 3; do echo line $n; done; echo > $out" { };
}
