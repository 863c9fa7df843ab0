let
  make = name: attributes:
    derivation ({ inherit name; builder = "/bin/sh"; system = "x86_64-linux"; } // attributes);
  all = builtins.mapAttrs make {
    base = {
      args = [ "-c" "mkdir $out $dev $doc" ];
      outputs = [ "out" "dev" "doc" ];
    };

    dev-first = {
      args = [ "-c" "mkdir $out $dev" ];
      outputs = [ "dev" "out" ];
    };

    by-string = {
      args = [ "-c" "ls ${all.base} ${all.base.dev}/include ${all.base.dev} > $out" ];
      first = "${all.dev-first}";
      both = "${all.dev-first.out}:${all.dev-first}";
    };

    by-table = {
      lib = all.base;
      headers = all.base.dev;
      list = [ "-L" all.base.out "-I${all.base.dev}" ];
    };

    built-builder = {
      builder = "${all.by-string}/bin/sh";
      args = [ all.by-string "x" ];
    };

    diamond = {
      left = "${all.by-string}";
      right = "${all.by-table}";
      top = "${all.base.doc}";
    };

    own = {
      outputs = [ "out" "lib" ];
      args = [ "--prefix=${builtins.placeholder "out"}" "--libdir=${builtins.placeholder "lib"}/lib" ];
    };
  };
in
all
