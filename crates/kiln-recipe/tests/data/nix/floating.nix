let
  make = name: attributes:
    derivation ({ inherit name; builder = "/bin/sh"; system = "x86_64-linux"; } // attributes);
  all = builtins.mapAttrs make {
    content = {
      __contentAddressed = true;
      outputHashAlgo = "sha256";
      outputHashMode = "recursive";
      outputs = [ "out" "dev" ];
      args = [ "-c" "mkdir $out; echo ${builtins.placeholder "out"} > $dev" ];
    };

    user = {
      args = [ "-c" "cat ${all.content.dev} > $out" ];
      content = all.content;
    };

    user-of-user.user = "${all.user}";

    impure = {
      __impure = true;
      outputHashAlgo = "sha256";
      outputHashMode = "recursive";
      args = [ "-c" "date > $out" ];
    };

    user-of-impure = {
      __contentAddressed = true;
      outputHashAlgo = "sha512";
      outputHashMode = "flat";
      impure = "${all.impure}";
    };
  };
in
all
