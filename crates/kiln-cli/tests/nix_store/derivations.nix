# Derivations that need a shell alone and build fast.
let
  mk = name: script: more: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
  } // more);
in
rec {
  source = builtins.toFile "source" "hello";
  lower = mk "lower" "echo building lower; echo x > $out" { };
  # Outputs that refer to one another and one to itself, and what is hard to quote.
  multi = mk "multi"
    "echo ${lower} $out > $out; echo $out > $dev; echo $dev ${lower} > $bin"
    {
      outputs = [ "out" "dev" "bin" ];
      inherit lower source;
      quote = "it's";
      lines = "one\ntwo $x";
      args = [ "-c" "echo ${lower} $out > $out; echo $out > $dev; echo $dev ${lower} > $bin" "it's" "two words" ];
    };
  top = mk "top" "echo ${multi.dev} ${multi.bin} > $out" { };
  # Never built unless a test does.
  other = mk "other" "echo ${lower} > $out" { };
  bad = mk "bad" "echo oh; exit 3" { };
  needsBad = mk "needs-bad" "echo ${bad} > $out" { };
  wrongHash = mk "wrong-hash" "echo x > $out" {
    outputHash = "0000000000000000000000000000000000000000000000000000000000000000";
    outputHashAlgo = "sha256";
  };
  random = mk "random" "read a < /proc/sys/kernel/random/uuid; echo $a > $out" { };
  slow = mk "slow" "while :; do :; done" { };
}
