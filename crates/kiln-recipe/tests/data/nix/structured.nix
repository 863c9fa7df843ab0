let
  make = name: attributes: derivation ({
    inherit name;
    builder = "/bin/sh";
    system = "x86_64-linux";
    args = [ "-c" "mkdir $out" ];
  } // (if name == "dep" then { } else { __structuredAttrs = true; }) // attributes);
  all = builtins.mapAttrs make {
    dep.outputs = [ "out" "dev" ];

    values = {
      yes = true;
      no = false;
      number = -1;
      text = builtins.fromJSON ''"quoted \" \\ \n\t\u0001 äöü ☃ / \u007f"'';
      list = [ 1 "two" [ 3 [ ] ] { four = 4; } ];
      dotted.key.deep = "x";
      "odd key" = { };
      path = { path = "/x"; source = "y"; output = "\${z}"; };
    };

    references = {
      outputs = [ "out" "lib" ];
      dep = "${all.dep}";
      inputs = [ all.dep.dev "${./greeting.txt}" ./greeting.txt ];
      own = [ (builtins.placeholder "out") "--lib=${builtins.placeholder "lib"}" ];
      nested.src = ./tree;
      outputChecks.out = { maxSize = 1000; allowedReferences = [ "${all.dep}" ]; };
    };

    fixed = {
      outputHash = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=";
      outputHashMode = "recursive";
    };
  };
in
all
