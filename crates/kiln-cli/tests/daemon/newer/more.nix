# What clients of newer releases evaluate and build beside `default.nix`.
let
  base = import ./default.nix;
  mk = name: script: extra: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
  } // extra);
  content-addressed = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
in rec {
  # Evaluation goes on with what a build has made.
  generated = mk "generated.nix" "echo '{ text = \"from a derivation\"; }' > $out" { };
  imported = mk "imported" "echo ${(import generated).text} > $out" { };
  read = mk "read" "echo ${builtins.readFile base.a} > $out" { };
  failing-import = import (mk "failing.nix" "echo going to fail; exit 7" { });

  text = builtins.toFile "text" "some text of ${source}";
  source = builtins.path { path = ./default.nix; name = "a-source"; };
  tree = builtins.filterSource (path: type: baseNameOf path != "left-out") ./tree;
  of-sources = mk "of-sources" "cat ${text} ${source} > $out; ls ${tree} >> $out" { };

  structured = mk "structured" ". ./.attrs.sh; echo $list > \${outputs[out]}" {
    builder = "/bin/bash";
    __structuredAttrs = true;
    list = [ "a" "b" ];
  };
  graph = mk "graph" "cat closure > $out" { exportReferencesGraph = [ "closure" base.b ]; };
  passed = mk "passed" "cat $textPath > $out" { passAsFile = [ "text" ]; text = "passed\n"; };
  three = mk "three" "echo 1 > $out; echo 2 > $lib; mkdir $doc; echo 3 > $doc/x" { outputs = [ "out" "lib" "doc" ]; };
  user = mk "user" "cat ${three.lib} ${three.doc}/x > $out" { };

  # Lines that are not UTF-8, that do not end, that tell of phases, and that are empty.
  odd-lines = mk "odd-lines" ''
    printf 'a\377b\n\n'; printf '@nix { "action": "setPhase", "phase": "buildPhase" }\n'; echo in the phase
    printf 'one\rtwo\n'; printf 'no end'; echo > $out
  '' { };

  no-output = mk "no-output" "true" { };
  no-second = mk "no-second" "echo > $out" { outputs = [ "out" "second" ]; };
  forbidden = mk "forbidden" "echo ${base.a} > $out" { disallowedReferences = [ base.a ]; };
  not-allowed = mk "not-allowed" "echo ${base.a} > $out" { allowedReferences = [ ]; };
  no-builder = mk "no-builder" "" { builder = "/nowhere/to/be/found"; };
  killed = mk "killed" "kill -9 $$" { };
  silent-failure = mk "silent-failure" "exit 1" { };
  long-failure = mk "long-failure" "for n in $(seq 40); do echo line $n; done; exit 1" { };
  needs-two = mk "needs-two" "cat ${silent-failure} ${long-failure} > $out" { };
  bad-hash = mk "bad-hash" "echo x > $out" { outputHash = "0000000000000000000000000000000000000000000000000000"; outputHashAlgo = "sha256"; };
  feature = mk "feature" "echo > $out" { requiredSystemFeatures = [ "of-no-machine" ]; };

  # Where their paths follow from what they contain.
  floating = mk "floating" "echo hi > $out" content-addressed;
  on-floating = mk "on-floating" "cat ${floating} > $out" { };
  floating-failure = mk "floating-failure" "exit 4" content-addressed;
}
