# Derivations that build, with whatever a database can say of them, and some that fail. They need a shell and a few tools.
let
  mk = name: script: more: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
  } // more);
in
rec {
  # Several outputs that refer to one another, modes, links, names that sort differently by case.
  lower = mk "lower"
    ''
      echo "building $name"
      mkdir -p $out/bin $dev
      printf '#!/bin/sh\necho hello\n' > $out/bin/hello
      chmod 777 $out/bin/hello
      ln -s hello $out/bin/hallo
      echo $out > $dev/lib
      echo a > $dev/b
      echo b > $dev/B
      echo man > $man
    ''
    { outputs = [ "out" "dev" "man" ]; };
  text = builtins.toFile "text" "some text\n";
  nested = builtins.toFile "nested" "see ${text}\n";
  upper = mk "upper"
    ''
      echo "building $name" >&2
      printf 'without a newline at the end'
      mkdir -p $out/deep/er $out/empty
      echo $lower $nested $out > $out/deep/er/references
      : > $out/nothing
    ''
    { inherit nested; lower = lower.dev; };
  quiet = mk "quiet" "cat $upper/deep/er/references > $out" { inherit upper; };
  # Bytes that are no UTF-8, and a log of some length.
  loud = mk "loud" "printf 'caf\\351\\n'; seq 1 3000; echo > $out" { };
  fixedFlat = mk "fixed-flat" "echo hello > $out"
    { outputHash = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="; };
  fixedRecursive = mk "fixed-recursive" "mkdir $out; echo hello > $out/f; chmod +x $out/f"
    {
      outputHashMode = "recursive";
      outputHashAlgo = "sha1";
      outputHash = "04c093fff27a42e8b09822f0e064d3070b23b218";
    };
  usesFixed = mk "uses-fixed" "cat $f > $out; echo $f >> $out" { f = fixedFlat; };
  passed = mk "passed" "cat $textPath > $out; echo >> $out; test $TMPDIR = $NIX_BUILD_TOP"
    { text = "passed as a file"; passAsFile = [ "text" ]; };
  graph = mk "graph" "sort closure > $out" { exportReferencesGraph = [ "closure" upper ]; };
  structured = derivation {
    name = "structured";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" "PATH=/usr/bin:/bin; cat $NIX_ATTRS_JSON_FILE $NIX_ATTRS_SH_FILE > ${builtins.placeholder "out"}" ];
    __structuredAttrs = true;
    number = 3;
    list = [ "x" "y z" true null ];
    deep.er = { inherit lower; };
    exportReferencesGraph.closure = [ upper ];
  };
  checked = mk "checked" "echo ${lower} $out > $out"
    { inherit lower; allowedReferences = [ lower "out" ]; disallowedRequisites = [ text ]; };
  plain = [ quiet loud fixedFlat fixedRecursive usesFixed passed graph checked ];
  good = plain ++ [ structured ];

  # These fail.
  exits = mk "exits" "echo going wrong; mkdir $out; exit 3" { };
  makesNothing = mk "makes-nothing" "echo nothing" { };
  makesHalf = mk "makes-half" "echo > $out" { outputs = [ "out" "dev" ]; };
  wrongHash = mk "wrong-hash" "echo something else > $out"
    { outputHash = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="; };
  notFlat = mk "not-flat" "mkdir $out"
    { outputHash = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="; };
  cycle = mk "cycle" "echo $dev > $out; echo $out > $dev" { outputs = [ "out" "dev" ]; };
  refersTooFar = mk "refers-too-far" "echo $lower > $out" { inherit lower; allowedReferences = [ ]; };
  special = mk "special" "mkfifo $out" { };
  dependsOnFailure = mk "depends-on-failure" "echo $exits > $out" { inherit exits; };
  elsewhere = derivation { name = "elsewhere"; system = "riscv128-plan9"; builder = "/bin/sh"; };
}
